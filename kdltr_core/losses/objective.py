"""The objective: named terms and their weights. The only place where the terms meet."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from kdltr_core.config import ObjectiveConfig
from kdltr_core.losses.baselines import (
    affinity,
    attention_divergence,
    attention_maps,
    attention_similarity,
    character_hint,
    feature_distance,
    path_likelihood,
    step_logits,
)
from kdltr_core.losses.recognition import recognition
from kdltr_core.losses.semantic_contrast import semantic_contrast
from kdltr_core.losses.soft_logits import soft_logits
from kdltr_core.losses.visual_focus import focus_mask, visual_focus
from kdltr_core.recognizers.recognizer import RecognizerOutput

# What each published baseline adds to cross entropy, and with which weight. A-SKD's 5 and DLD's 1 are those of their
# public code; for the others 1 is ours. DLD's choice of a resolution has no part here: there is one. Its features of a
# region are the visual features here, and those of its context the semantic vectors. Unified's balance between two
# teachers has no part either: there is one.
BASELINES = {
    "dfd": {"feature_distance": 1.0},
    "a_skd": {"attention_similarity": 5.0},
    "unified": {"step_logits": 1.0, "character_hint": 1.0, "attention_divergence": 1.0, "affinity": 1.0},
    "dld": {"path_likelihood": 1.0, "feature_distance": 1.0, "character_hint": 1.0},
}
# The terms of KD-LTR's own objective, with the weights of the run's config.
DISTILLATION_TERMS = ("visual_focus", "semantic_contrast", "soft_logits", "cross_entropy")
VISUAL_TERMS = frozenset({"visual_focus", "feature_distance"})
SEMANTIC_TERMS = frozenset({"semantic_contrast", "character_hint"})


@dataclass(frozen=True)
class LossTerms:
    """One batch's loss.

    Attributes:
        terms: scalars by name, unweighted; terms of weight 0 are absent.
        total: the weighted sum, what is minimised.
    """

    terms: dict[str, Tensor]
    total: Tensor


def is_loss_term(name: str) -> bool:
    """Whether it names a term of some objective; supervised training has a cross entropy for each of several heads."""
    known = {*DISTILLATION_TERMS, *(term for terms in BASELINES.values() for term in terms)}
    return name in known or name.startswith("cross_entropy_")


def term_weights(config: ObjectiveConfig, heads: Sequence[str] = ()) -> dict[str, float]:
    """The terms that the objective consists of, and their weights.

    Args:
        heads: the recognizer's classifiers, the one that reads last; supervised training teaches them all, for ABINet
            Fang et al. 2021, eq. 6.

    Raises: ValueError if every weight is 0.
    """
    if config.name == "supervised":
        return {"cross_entropy": 1.0, **{f"cross_entropy_{name}": 1.0 for name in heads[:-1]}}
    if config.name in BASELINES:
        return {**BASELINES[config.name], "cross_entropy": 1.0}
    weights = {name: weight for name in DISTILLATION_TERMS if (weight := getattr(config, name)) > 0}
    if not weights:
        names = ", ".join(DISTILLATION_TERMS)
        raise ValueError(f"the weights of {names} are all 0; give at least one of them a weight")
    return weights


def compute_terms(
    config: ObjectiveConfig,
    student: RecognizerOutput,
    teacher: RecognizerOutput | None,
    projector: nn.Module | None,
    targets: Tensor,
    lengths: Tensor,
    num_valid_steps: Tensor | None = None,
    rows: Tensor | None = None,
    weights: Tensor | None = None,
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
        rows: see ``semantic_contrast``.
        weights: (N,), of the labels; see ``recognition``.

    Raises: ValueError if every weight is 0, or a term lacks the teacher, projector or semantic vectors it needs.
    """
    heads = list(student.heads)
    by_term = term_weights(config, heads)
    terms: dict[str, Tensor] = {}
    for name in by_term:
        if name.startswith("cross_entropy"):
            logits = student.logits
            if config.name == "supervised" and heads:
                logits = student.heads[name.removeprefix("cross_entropy").removeprefix("_") or heads[-1]]
            terms[name] = recognition(logits, targets, lengths, num_valid_steps, weights)
            continue
        if teacher is None:
            raise ValueError(f"{name} needs a teacher and there is none; give one, or set objective.name to supervised")
        terms[name] = _taught(name, config, student, teacher, projector, lengths, rows)
    first, *rest = [weight * terms[name] for name, weight in by_term.items()]
    return LossTerms(terms, sum(rest, start=first))


def _taught(
    name: str,
    config: ObjectiveConfig,
    student: RecognizerOutput,
    teacher: RecognizerOutput,
    projector: nn.Module | None,
    lengths: Tensor,
    rows: Tensor | None,
) -> Tensor:
    if name == "visual_focus":
        mask = None if teacher.attention is None else focus_mask(teacher.attention, lengths)
        return visual_focus(student.visual, teacher.visual, mask)
    if name == "feature_distance":
        return feature_distance(student.visual, teacher.visual)
    if name in ("attention_similarity", "attention_divergence"):
        maps, valid = attention_maps(student, lengths)
        measure = attention_similarity if name == "attention_similarity" else attention_divergence
        return measure(maps, attention_maps(teacher, lengths)[0], valid)
    if name == "step_logits":
        return step_logits(student.logits, teacher.logits, lengths, config.soft_temperature)
    if name == "path_likelihood":
        return path_likelihood(student.logits, teacher.logits)
    if name == "soft_logits":
        return soft_logits(student.logits, teacher.logits, config.soft_temperature, config.sequence_mix)
    if student.semantic is None or teacher.semantic is None:
        raise ValueError(f"{name} needs the semantic vectors of both sides")
    if name == "character_hint":
        return character_hint(student.semantic, teacher.semantic, lengths)
    if name == "affinity":
        return affinity(student.semantic, teacher.semantic, lengths)
    if projector is None:
        raise ValueError("semantic_contrast needs a projector")
    temperature = config.contrast_temperature
    return semantic_contrast(student.semantic, teacher.semantic, lengths, projector, temperature, rows=rows)
