"""Which weights a loss cannot reach: found from its graph, before there is a gradient, and no others."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from kdltr_core.config import ObjectiveConfig
from kdltr_core.data.batch import encode_targets
from kdltr_core.losses import LossTerms
from kdltr_core.recognizers import Recognizer
from kdltr_core.recognizers.permutations import sample_permutations
from kdltr_core.train.distiller import Distiller, needs_teacher, teach
from kdltr_core.train.step import unused_parameters
from tests.kdltr_core.small import CNN_FAMILIES, STUDENTS, TEACHERS

TERMS = ("visual_focus", "semantic_contrast", "soft_logits", "cross_entropy")
OBJECTIVES: dict[str, dict[str, object]] = {
    "distillation": {},
    **{f"{term} alone": {other: 0.0 for other in TERMS if other != term} for term in TERMS},
    "supervised": {"name": "supervised"},
}
PAIRS = [(family, family) for family in STUDENTS] + [("parseq_tiny", "parseq"), ("abinet_vision", "abinet")]

# What the published implementation's losses do not train either.
LANGUAGE = {"vision.cls.weight", "vision.cls.bias", "language.cls.weight", "language.cls.bias"}
ENHANCED = {f"semantic_visual.{head}.{kind}" for head in ("cls_vis", "cls_sem") for kind in ("weight", "bias")}
OF_DISTILLATION: dict[str, set[str]] = {
    "abinet_vision": set(),
    "abinet": LANGUAGE,
    "matrn": LANGUAGE | ENHANCED,
    "parseq": set(),
    "parseq_tiny": set(),
}


def step(student: Recognizer, teacher: Recognizer, config: ObjectiveConfig) -> tuple[Distiller, LossTerms]:
    """Forward of a step on two words."""
    distiller = Distiller(student, config, teacher if needs_teacher(config) else None).train()
    targets, lengths = encode_targets(["Hello", "a1"], student.charset, student.fixed_num_steps)
    permutations = sample_permutations(targets.shape[1] - 2, 2, torch.Generator().manual_seed(0))
    high_res = torch.randint(0, 256, (2, 3, 32, 128), dtype=torch.uint8)
    low_res = torch.randint(0, 256, (2, 3, 16, 64), dtype=torch.uint8)
    taught = teach(teacher.eval(), high_res, targets, permutations) if needs_teacher(config) else None
    return distiller, distiller(low_res, targets, lengths, permutations, taught)


def attention_of(student: Recognizer) -> nn.Module:
    return student.get_submodule("vision.attention")


@pytest.mark.parametrize("objective", OBJECTIVES)
@pytest.mark.parametrize(("family", "teacher"), PAIRS)
def test_the_unused_parameters_are_exactly_those_that_stay_without_gradient(
    family: str, teacher: str, objective: str
) -> None:
    torch.manual_seed(0)
    config = ObjectiveConfig.model_validate(OBJECTIVES[objective])
    distiller, loss = step(STUDENTS[family](), TEACHERS[teacher](), config)
    unused = unused_parameters(distiller, loss.total)
    assert all(parameter.grad is None for parameter in distiller.parameters())  # it was only a walk over the graph
    loss.total.backward()
    assert unused == [name for name, parameter in distiller.named_parameters() if parameter.grad is None]
    if objective in ("distillation", "soft_logits alone", "cross_entropy alone"):
        expected = set(OF_DISTILLATION[family])
        if family == "matrn" and objective != "distillation":
            # MATRN's enhancement detaches where the vision part attends, and its semantic vectors have no term here.
            expected |= {f"vision.attention.{name}" for name, _ in attention_of(distiller.student).named_parameters()}
        assert set(unused) == {f"student.{name}" for name in expected}
    elif objective == "supervised" and family in CNN_FAMILIES:
        assert unused == []
