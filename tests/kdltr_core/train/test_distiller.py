"""The trainable module: what it holds, what its loss reaches, and that every objective trains it."""

from __future__ import annotations

from typing import get_args

import pytest
import torch
from torch import Tensor

from kdltr_core.config import ObjectiveConfig, ObjectiveName
from kdltr_core.device import autocast
from kdltr_core.losses import LossTerms
from kdltr_core.losses.visual_focus import visual_focus
from kdltr_core.recognizers import RecognizerOutput
from kdltr_core.train.distiller import Distiller, needs_teacher, teach
from kdltr_core.train.step import unused_parameters
from tests.kdltr_core.small import CNN_FAMILIES, STUDENTS, TEACHERS, drawn_batch

TERMS = ("visual_focus", "semantic_contrast", "soft_logits", "cross_entropy")
OBJECTIVES: dict[str, dict[str, object]] = {
    "distillation": {},
    **{f"{term} alone": {other: 0.0 for other in TERMS if other != term} for term in TERMS},
    "supervised": {"name": "supervised"},
}
PAIRS = [(family, family) for family in STUDENTS] + [("parseq_tiny", "parseq"), ("abinet_vision", "abinet")]
PAIRS += [("abinet", "matrn"), ("matrn", "abinet"), ("abinet", "abinet_vision")]

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


def distiller_of(student: str, teacher: str, **fields: object) -> Distiller:
    torch.manual_seed(0)
    config = ObjectiveConfig.model_validate(fields)
    return Distiller(STUDENTS[student](), config, TEACHERS[teacher]() if needs_teacher(config) else None).train()


def taught_by(teacher: str, batch: tuple[Tensor, ...]) -> RecognizerOutput:
    torch.manual_seed(1)
    return teach(TEACHERS[teacher]().eval(), batch[0], batch[2], batch[4])


def forward(distiller: Distiller, teacher: str, *labels: str) -> LossTerms:
    """Of a training step on these words."""
    batch = drawn_batch(distiller.student, *labels)
    return distiller(*batch[1:], taught_by(teacher, batch) if needs_teacher(distiller.config) else None)


@pytest.mark.parametrize(
    ("fields", "parts", "has_teacher"),
    [
        ({}, {"projector", "visual_projection", "semantic_projection"}, True),
        ({"visual_focus": 0}, {"projector", "semantic_projection"}, True),
        ({"semantic_contrast": 0}, {"visual_projection"}, True),
        ({"visual_focus": 0, "semantic_contrast": 0}, set(), True),
        ({"visual_focus": 0, "semantic_contrast": 0, "soft_logits": 0}, set(), False),
        ({"name": "supervised"}, set(), False),
        ({"name": "dfd"}, {"visual_projection"}, True),
        ({"name": "a_skd"}, set(), True),
        ({"name": "unified"}, {"semantic_projection"}, True),
        ({"name": "dld"}, {"visual_projection", "semantic_projection"}, True),
    ],
)
def test_beside_the_student_is_only_what_a_computed_term_and_widths_that_differ_ask_for(
    fields: dict[str, object], parts: set[str], has_teacher: bool
) -> None:
    """The teacher in no case."""
    pairs = [("parseq_tiny", "parseq"), ("parseq", "parseq"), ("abinet", "matrn"), ("abinet_vision", "abinet")]
    for number, (student, teacher) in enumerate(pairs):
        distiller = distiller_of(student, teacher, **fields)
        assert {name for name, _ in distiller.named_children()} == {"student"} | (
            parts & {"projector"} if number else parts
        )
        assert needs_teacher(distiller.config) == has_teacher


def test_where_widths_differ_the_students_features_are_mapped_to_the_teachers() -> None:
    distiller = distiller_of("parseq_tiny", "parseq")
    batch = _, low_res, targets, _, orders = drawn_batch(distiller.student, "Hello", "a1")
    loss, taught = forward(distiller, "parseq", "Hello", "a1"), taught_by("parseq", batch)
    output = distiller.student.forward_training(low_res / 255, targets, orders)
    assert output.visual.shape[1] == output.semantic.shape[-1] == 32
    assert taught.visual.shape[1] == taught.semantic.shape[-1] == 48
    weight, bias = distiller.visual_projection.weight[..., 0], distiller.visual_projection.bias
    mapped = torch.einsum("dc,ncl->ndl", weight, output.visual) + bias[:, None]
    torch.testing.assert_close(loss.terms["visual_focus"], visual_focus(mapped, taught.visual))
    loss.total.backward()
    learnt = {name: p.grad.abs().max() for name, p in distiller.named_parameters() if "_projection" in name}
    # Visual focus standardises every channel, so that what is added to all of it changes nothing.
    assert learnt.pop("visual_projection.bias") < 1e-5
    assert min(learnt.values()) > 1e-6


def test_float32_is_float32_whatever_the_machine() -> None:
    with autocast(torch.device("cpu"), "float32"):
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == torch.float32
    with autocast(torch.device("cpu"), "bfloat16"):
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == torch.bfloat16


@pytest.mark.parametrize("family", CNN_FAMILIES)
def test_in_bfloat16_the_terms_are_those_of_float32_but_for_rounding(family: str) -> None:
    words = ("Hello", "a", "kd7", "EXIT", "dont", "Main")
    exact = forward(distiller_of(family, family), family, *words)
    distiller = distiller_of(family, family)
    with torch.autocast("cpu", torch.bfloat16):
        rounded = forward(distiller, family, *words)
    for name, term in exact.terms.items():
        assert rounded.terms[name].dtype == torch.float32
        torch.testing.assert_close(rounded.terms[name], term, rtol=0.05, atol=1e-4, msg=lambda m, n=name: f"{n}: {m}")
    assert any(not torch.equal(rounded.terms[name], term) for name, term in exact.terms.items())
    rounded.total.backward()
    gradients = [(p.dtype, p.grad) for p in distiller.parameters() if p.grad is not None]
    assert all(gradient.isfinite().all() and gradient.dtype == dtype for dtype, gradient in gradients)


@pytest.mark.parametrize("family", ["parseq_tiny", "abinet"])
@pytest.mark.parametrize("name", get_args(ObjectiveName))
def test_a_few_steps_lower_the_loss(family: str, name: ObjectiveName) -> None:
    distiller = distiller_of(family, family, name=name)
    optimiser = torch.optim.Adam(distiller.parameters(), 2e-3)
    losses = []
    for _ in range(8):
        loss = forward(distiller, family, "Hello", "a", "plate7", "x").total
        losses.append(float(loss.detach()))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert losses[-1] < losses[0]


@pytest.mark.parametrize("objective", OBJECTIVES)
@pytest.mark.parametrize(("family", "teacher"), PAIRS)
def test_the_unused_parameters_are_exactly_those_that_stay_without_gradient(
    family: str, teacher: str, objective: str
) -> None:
    distiller = distiller_of(family, teacher, **OBJECTIVES[objective])
    loss = forward(distiller, teacher, "Hello", "a1")
    unused = unused_parameters(distiller, loss.total)
    assert all(parameter.grad is None for parameter in distiller.parameters())  # it was only a walk over the graph
    loss.total.backward()
    assert unused == [name for name, parameter in distiller.named_parameters() if parameter.grad is None]
    if objective in ("distillation", "soft_logits alone", "cross_entropy alone"):
        expected = set(OF_DISTILLATION[family])
        if family == "matrn" and objective != "distillation":
            # MATRN's enhancement detaches where the vision part attends, and its semantic vectors have no term here.
            attention = distiller.student.get_submodule("vision.attention")
            expected |= {f"vision.attention.{name}" for name, _ in attention.named_parameters()}
        assert set(unused) == {f"student.{name}" for name in expected}
    elif objective == "supervised" and family in CNN_FAMILIES:
        assert unused == []
