"""The objective: named terms and their weights. The only place where the terms meet."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from kdltr_core.config import ObjectiveConfig
from kdltr_core.losses.recognition import recognition
from kdltr_core.losses.semantic_contrast import semantic_contrast
from kdltr_core.losses.soft_logits import soft_logits
from kdltr_core.losses.visual_focus import focus_mask, visual_focus
from kdltr_core.recognizers.output import RecognizerOutput


@dataclass(frozen=True)
class LossTerms:
    """One batch's loss.

    Attributes:
        terms: scalars by name, unweighted; terms of weight 0 are absent.
        total: the weighted sum, what is minimised.
    """

    terms: dict[str, Tensor]
    total: Tensor


def term_weights(config: ObjectiveConfig, heads: Sequence[str] = ()) -> dict[str, float]:
    """The terms that the objective consists of, and their weights.

    Args:
        heads: the recognizer's classifiers, the one that reads last; supervised training teaches them all, for ABINet
            Fang et al. 2021, eq. 6.

    Raises: ValueError if every weight is 0.
    """
    if config.name == "supervised":
        auxiliary = {f"cross_entropy_{name}": config.auxiliary_heads for name in heads[:-1]}
        return {"cross_entropy": 1.0, **{name: weight for name, weight in auxiliary.items() if weight > 0}}
    names = ("visual_focus", "semantic_contrast", "soft_logits", "cross_entropy")
    weights = {name: weight for name in names if (weight := getattr(config, name)) > 0}
    if not weights:
        raise ValueError(f"the weights of {', '.join(names)} are all 0; give at least one of them a weight")
    return weights


def compute_terms(
    config: ObjectiveConfig,
    student: RecognizerOutput,
    teacher: RecognizerOutput | None,
    projector: nn.Module | None,
    targets: Tensor,
    lengths: Tensor,
    num_valid_steps: Tensor | None = None,
) -> LossTerms:
    """The terms of one batch, each in float32 whatever the type of the outputs.

    Args:
        config: names the terms and their weights.
        student: of the training forward: logits (P, N, T, C), semantic (P, N, T, D).
        teacher: likewise, not differentiated; None where the objective is supervised.
        projector: what semantic contrast trains beside the student; None where that term has no weight.
        targets: (N, T + 1) class ids, the begin class first.
        lengths: (N,), valid steps of each word, the end included.
        num_valid_steps: see ``recognition``.

    Raises: ValueError if every weight is 0, or a term lacks the teacher, projector or semantic vectors it needs.
    """
    heads = list(student.heads)
    weights = term_weights(config, heads)
    terms: dict[str, Tensor] = {}
    for name in weights:
        if name.startswith("cross_entropy"):
            logits = student.logits
            if config.name == "supervised" and heads:
                logits = student.heads[name.removeprefix("cross_entropy").removeprefix("_") or heads[-1]]
            terms[name] = recognition(logits, targets, lengths, num_valid_steps)
            continue
        if teacher is None:
            raise ValueError(f"{name} needs a teacher and there is none; give one, or set objective.name to supervised")
        if name == "visual_focus":
            mask = None if teacher.attention is None else focus_mask(teacher.attention, lengths)
            terms[name] = visual_focus(student.visual, teacher.visual, mask)
        elif name == "semantic_contrast":
            if projector is None or student.semantic is None or teacher.semantic is None:
                raise ValueError("semantic_contrast needs a projector and the semantic vectors of both sides")
            terms[name] = semantic_contrast(
                student.semantic,
                teacher.semantic,
                lengths,
                projector,
                config.contrast_temperature,
                config.contrast_group,
            )
        elif name == "soft_logits":
            terms[name] = soft_logits(
                student.logits,
                teacher.logits,
                config.soft_temperature,
                config.sequence_mix,
                config.sequence_threshold,
                config.num_paths,
                config.branching,
                config.log_prob_floor,
            )
    first, *rest = [weight * terms[name] for name, weight in weights.items()]
    return LossTerms(terms, sum(rest, start=first))
