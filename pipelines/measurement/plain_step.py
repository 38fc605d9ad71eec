"""A training step's loss in the plain way: only what benchmark.py measures against.

One permutation at a time, teacher and student one after the other, one word's paths at a time: what a reader of the
paper would write down first. It computes the same loss as ``Distiller``, dropout apart.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from kdltr_core.config import ObjectiveConfig
from kdltr_core.data.images import as_float
from kdltr_core.losses.objective import LossTerms, term_weights
from kdltr_core.losses.visual_focus import focus_mask, visual_focus
from kdltr_core.recognizers import Recognizer, RecognizerOutput
from kdltr_core.train.distiller import Distiller
from pipelines.measurement.baselines import search_sequence_targets


def plain_terms(
    distiller: Distiller,
    teacher: Recognizer,
    high_res: Tensor,
    low_res: Tensor,
    targets: Tensor,
    lengths: Tensor,
    permutations: Tensor,
    max_expansions: int | None = None,
) -> LossTerms:
    """The four terms of one batch.

    Args:
        high_res, low_res, targets, lengths, permutations: as for ``teach`` and ``Distiller.forward``.
        max_expansions: as for ``search_sequence_targets``.
    """
    with torch.no_grad():
        lesson = teacher.encode_lesson(as_float(high_res))
    told, said = [], []
    student = distiller.student
    if student.uses_permutations:
        seen = student.encode_lesson(as_float(low_res))
        for order in permutations:
            with torch.no_grad():
                told.append(teacher.decode_lesson(lesson, targets, order[None]))
            said.append(student.decode_lesson(seen, targets, order[None]))
    else:
        told.append(teacher.decode_lesson(lesson, targets, permutations))
        said.append(student.forward_training(as_float(low_res), targets, permutations))
    return plain_losses(distiller, said, told, targets, lengths, max_expansions)


def plain_losses(
    distiller: Distiller,
    said: Sequence[RecognizerOutput],
    told: Sequence[RecognizerOutput],
    targets: Tensor,
    lengths: Tensor,
    max_expansions: int | None = None,
) -> LossTerms:
    """The terms from student's and teacher's outputs, one of each for every permutation."""
    config = distiller.config
    mask = None if told[0].attention is None else focus_mask(told[0].attention, lengths)
    terms = {"visual_focus": visual_focus(said[0].visual, told[0].visual, mask)}
    for name in ("semantic_contrast", "soft_logits", "cross_entropy"):
        each = []
        for student, teacher in zip(said, told, strict=True):
            if name == "semantic_contrast":
                each.append(_contrast(distiller, student, teacher, lengths))
            elif name == "soft_logits":
                each.append(_soft_logits(config, student.logits[0], teacher.logits[0], max_expansions))
            else:
                each.append(_cross_entropy(student.logits[0], targets, lengths))
        terms[name] = torch.stack(each).mean()
    weights = term_weights(config)
    return LossTerms(terms, _weighted(terms, weights))


def _weighted(terms: Mapping[str, Tensor], weights: Mapping[str, float]) -> Tensor:
    return torch.stack([weight * terms[name] for name, weight in weights.items()]).sum()


def _contrast(distiller: Distiller, student: RecognizerOutput, teacher: RecognizerOutput, lengths: Tensor) -> Tensor:
    config, projector = distiller.config, distiller.projector
    assert projector is not None
    assert student.semantic is not None
    assert teacher.semantic is not None
    mine, theirs = projector(student.semantic)[0], projector(teacher.semantic)[0]
    losses = []
    for start in range(0, len(lengths), config.contrast_group):
        group = slice(start, start + config.contrast_group)
        valid = torch.arange(mine.shape[1]) < lengths[group, None].cpu()
        vectors = torch.cat([F.normalize(side[group][valid.to(side.device)], dim=-1) for side in (mine, theirs)])
        cosines = vectors @ vectors.T / config.contrast_temperature
        others = cosines.masked_fill(torch.eye(len(cosines), dtype=torch.bool, device=cosines.device), -torch.inf)
        twin = torch.arange(len(cosines), device=cosines.device).roll(len(cosines) // 2)
        losses.append(F.cross_entropy(others, twin))
    return torch.stack(losses).mean()


def _soft_logits(config: ObjectiveConfig, student: Tensor, teacher: Tensor, max_expansions: int | None) -> Tensor:
    log_p = (student / config.soft_temperature).log_softmax(-1).clamp(min=config.log_prob_floor)
    q = (teacher / config.soft_temperature).softmax(-1)
    sequence = search_sequence_targets(q.cpu(), config.num_paths, config.branching, max_expansions)
    losses = []
    for word in range(len(q)):
        steps, soft = int(sequence.length[word]), q[word]
        if sequence.best_probability[word] >= config.sequence_threshold:
            voted = sequence.distribution[word].to(q.device)
            soft = config.sequence_mix * voted + (1 - config.sequence_mix) * soft
        losses.append(F.kl_div(log_p[word, :steps], soft[:steps], reduction="sum") / steps)
    return torch.stack(losses).mean()


def _cross_entropy(logits: Tensor, targets: Tensor, lengths: Tensor) -> Tensor:
    valid = torch.arange(logits.shape[1], device=logits.device) < lengths[:, None]
    return F.cross_entropy(logits[valid], targets[:, 1:][valid])
