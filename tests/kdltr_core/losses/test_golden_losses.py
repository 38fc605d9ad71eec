"""The losses and their gradients equal those of the published implementation."""

from __future__ import annotations

import pytest
import torch

from kdltr_core.config import ObjectiveConfig
from kdltr_core.data.batch import valid_rows
from kdltr_core.losses import compute_terms
from kdltr_core.losses.visual_focus import visual_focus
from tests.kdltr_core.losses.golden import golden_loss

NAMES = {
    "visual_focus": "visual",
    "semantic_contrast": "semantic",
    "soft_logits": "soft_logits",
    "cross_entropy": "cross_entropy",
}


def assert_golden(actual: torch.Tensor, expected: torch.Tensor) -> None:
    """Relative to the largest element, so that gradients near zero are held to the scale of their tensor."""
    torch.testing.assert_close(actual, expected, rtol=1e-4, atol=1e-4 * float(expected.abs().max()))


@pytest.mark.parametrize(("family", "absent"), [("abinet", set()), ("parseq", {"visual_focus"})])
def test_terms_total_and_gradients_are_the_published_ones(family: str, absent: set[str]):
    """PARSeq's visual focus is taken from the file: its inputs are cut (see the golden README), and tested below."""
    golden = golden_loss(family)
    config = ObjectiveConfig(**dict.fromkeys(absent, 0.0))
    loss = compute_terms(config, golden.student, golden.teacher, golden.projector, golden.targets, golden.lengths)
    assert loss.terms.keys() == NAMES.keys() - absent
    for ours in loss.terms:
        assert_golden(loss.terms[ours], golden.arrays[NAMES[ours]])
    assert_golden(loss.total + (4 * golden.arrays["visual"] if absent else 0), golden.arrays["total"])

    loss.total.backward()
    for part in ("semantic", "logits") if absent else ("visual", "semantic", "logits"):
        gradient = getattr(golden.student, part).grad
        assert_golden(gradient, golden.arrays[f"grad_student_{part}"].reshape(gradient.shape))
    for name, parameter in golden.projector.named_parameters():
        assert parameter.grad is not None
        assert_golden(parameter.grad.norm(), golden.arrays[f"gradnorm.{name}"])


def test_parseq_visual_focus_has_the_published_gradient_of_every_channel():
    golden = golden_loss("parseq")
    visual_focus(golden.student.visual, golden.teacher.visual).backward()
    weight, kept_share = 4.0, 24 / 384  # the mean over channels divides by 24 here, and by 384 in the published value
    expected = golden.arrays["grad_student_visual"].mT
    assert_golden(weight * kept_share * golden.student.visual.grad, expected)


@pytest.mark.parametrize("group", [4, 64])
def test_one_group_is_the_published_contrast(group: int):
    golden = golden_loss("parseq")
    config = ObjectiveConfig(visual_focus=0, soft_logits=0, cross_entropy=0)
    rows = valid_rows(golden.lengths, golden.student.semantic.shape[2], group)
    words = (golden.targets, golden.lengths)
    loss = compute_terms(config, golden.student, golden.teacher, golden.projector, *words, rows=rows)
    assert_golden(loss.terms["semantic_contrast"], golden.arrays["semantic"])
