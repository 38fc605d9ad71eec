"""The reference that speed_of_training measures against: a training step as a reader of the paper would write it first.

One permutation at a time, teacher and student one after the other, one word's paths at a time, images decoded one by
one. It computes the same loss as ``Distiller``, dropout apart.
"""

from __future__ import annotations

import heapq

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from kdltr_core.config import HIGH_RES_SIZE, LOW_RES_SIZE, ObjectiveConfig
from kdltr_core.data.batch import CONTRAST_GROUP
from kdltr_core.data.images import as_float, decode_image, resize
from kdltr_core.data.lmdb_store import LmdbStore
from kdltr_core.losses.objective import LossTerms, term_weights
from kdltr_core.losses.sequence_targets import END_ID, SequenceTargets
from kdltr_core.losses.soft_logits import LOG_PROB_FLOOR, NUM_PATHS, SEQUENCE_THRESHOLD
from kdltr_core.losses.visual_focus import focus_mask, visual_focus
from kdltr_core.recognizers import Recognizer, RecognizerOutput
from kdltr_core.train.distiller import Distiller


def reference_terms(
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
    student, config = distiller.student, distiller.config
    taught: list[RecognizerOutput] = []
    learnt: list[RecognizerOutput] = []
    with torch.no_grad():
        encoded = teacher.encode(as_float(high_res))
    if student.uses_permutations:
        seen = student.encode(as_float(low_res))
        for order in permutations:
            with torch.no_grad():
                taught.append(teacher.decode(encoded, targets, order[None]))
            learnt.append(student.decode(seen, targets, order[None]))
    else:
        taught.append(teacher.decode(encoded, targets, permutations))
        learnt.append(student.forward_training(as_float(low_res), targets, permutations))
    mask = None if taught[0].attention is None else focus_mask(taught[0].attention, lengths)
    pairs = list(zip(learnt, taught, strict=True))
    each = {
        "semantic_contrast": [_contrast(distiller, mine, theirs, lengths) for mine, theirs in pairs],
        "soft_logits": [
            _soft_logits(config, mine.logits[0], theirs.logits[0], max_expansions) for mine, theirs in pairs
        ],
        "cross_entropy": [_cross_entropy(mine.logits[0], targets, lengths) for mine in learnt],
    }
    terms = {"visual_focus": visual_focus(learnt[0].visual, taught[0].visual, mask)}
    terms |= {name: torch.stack(losses).mean() for name, losses in each.items()}
    return LossTerms(terms, torch.stack([weight * terms[name] for name, weight in term_weights(config).items()]).sum())


def _contrast(distiller: Distiller, student: RecognizerOutput, teacher: RecognizerOutput, lengths: Tensor) -> Tensor:
    config, projector = distiller.config, distiller.projector
    assert projector is not None
    assert student.semantic is not None
    assert teacher.semantic is not None
    mine, theirs = projector(student.semantic)[0], projector(teacher.semantic)[0]
    losses = []
    for start in range(0, len(lengths), CONTRAST_GROUP):
        group = slice(start, start + CONTRAST_GROUP)
        valid = torch.arange(mine.shape[1]) < lengths[group, None].cpu()
        vectors = torch.cat([F.normalize(side[group][valid.to(side.device)], dim=-1) for side in (mine, theirs)])
        cosines = vectors @ vectors.T / config.contrast_temperature
        others = cosines.masked_fill(torch.eye(len(cosines), dtype=torch.bool, device=cosines.device), -torch.inf)
        twin = torch.arange(len(cosines), device=cosines.device).roll(len(cosines) // 2)
        losses.append(F.cross_entropy(others, twin))
    return torch.stack(losses).mean()


def _soft_logits(config: ObjectiveConfig, student: Tensor, teacher: Tensor, max_expansions: int | None) -> Tensor:
    log_p = (student / config.soft_temperature).log_softmax(-1).clamp(min=LOG_PROB_FLOOR)
    q = (teacher / config.soft_temperature).softmax(-1)
    sequence = search_sequence_targets(q.cpu(), NUM_PATHS, max_expansions=max_expansions)
    losses = []
    for word in range(len(q)):
        steps, soft = int(sequence.length[word]), q[word]
        if sequence.best_probability[word] >= SEQUENCE_THRESHOLD:
            voted = sequence.distribution[word].to(q.device)
            soft = config.sequence_mix * voted + (1 - config.sequence_mix) * soft
        losses.append(F.kl_div(log_p[word, :steps], soft[:steps], reduction="sum") / steps)
    return torch.stack(losses).mean()


def _cross_entropy(logits: Tensor, targets: Tensor, lengths: Tensor) -> Tensor:
    valid = torch.arange(logits.shape[1], device=logits.device) < lengths[:, None]
    return F.cross_entropy(logits[valid], targets[:, 1:][valid])


def search_sequence_targets(
    probs: Tensor, num_paths: int = 6, branching: int = 3, max_expansions: int | None = None
) -> SequenceTargets:
    """What ``sequence_targets`` computes, one word at a time with a priority queue.

    Best first by probability / (length that the path has at least), which no continuation can exceed: paths leave the
    queue in the order of their rank. Exact where ``max_expansions`` is None. With a limit, as published, the paths
    found until then are ranked, and where none ended by then the best unfinished one stands in.
    """
    distribution, lengths, best = np.zeros(probs.shape, np.float32), [], []
    top_probs, top_classes = (x.tolist() for x in probs.float().topk(min(branching, probs.shape[-1]), dim=-1))
    for word in range(len(probs)):
        paths = _search(top_probs[word], top_classes[word], num_paths, max_expansions)
        total = sum(probability for probability, _ in paths)
        for probability, path in paths:
            for step in range(probs.shape[1]):
                distribution[word, step, path[step] if step < len(path) else END_ID] += probability / total
        lengths.append(len(paths[0][1]))
        best.append(paths[0][0])
    return SequenceTargets(torch.from_numpy(distribution), torch.tensor(lengths), torch.tensor(best))


def _search(
    top_probs: list[list[float]], top_classes: list[list[int]], num_paths: int, max_expansions: int | None
) -> list[tuple[float, tuple[int, ...]]]:
    num_steps = len(top_probs)
    queue: list[tuple[float, float, tuple[int, ...]]] = [(-1.0, 1.0, ())]
    found: list[tuple[float, tuple[int, ...]]] = []
    num_expanded = 0
    while queue and len(found) < num_paths and num_expanded != max_expansions:
        _, probability, path = heapq.heappop(queue)
        if len(path) == num_steps or (path and path[-1] == END_ID):
            found.append((probability, path))
            continue
        num_expanded += 1
        step = len(path)
        for factor, character in zip(top_probs[step], top_classes[step], strict=True):
            length = step + 1 if character == END_ID else min(step + 2, num_steps)
            joint = probability * factor
            heapq.heappush(queue, (-joint / length, joint, (*path, character)))
    return found or [(queue[0][1], queue[0][2])]


def decode_pairs(store: LmdbStore, numbers: np.ndarray) -> tuple[Tensor, Tensor]:
    """What ``Pack.gather`` returns, for samples by their 1-based numbers: read, decoded and resized one by one."""
    sides: tuple[list[np.ndarray], list[np.ndarray]] = ([], [])
    for i in numbers.tolist():
        high, low = store.image(i), store.image(i, int(store.kind == "paired"))
        for side, data, size in zip(sides, (high, low), (HIGH_RES_SIZE, LOW_RES_SIZE), strict=True):
            side.append(resize(decode_image(data, store.image_key(i)), size).transpose(2, 0, 1))
    high_res, low_res = (torch.from_numpy(np.stack(side)) for side in sides)
    return high_res, low_res
