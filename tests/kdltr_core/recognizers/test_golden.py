"""Every family computes what the published implementation computes."""

from __future__ import annotations

import functools

import pytest
import torch
from torch import Tensor

from kdltr_core.data.images import enlarge
from kdltr_core.recognizers import Recognizer, build_student, build_teacher
from tests.golden_weights import golden_arrays, golden_state

OURS = {"basevision": "abinet_vision", "abinet": "abinet", "matrn": "matrn", "parseq": "parseq"}
CASES = [(family, role) for family in OURS for role in ("student", "teacher")]


@functools.cache
def golden_recognizer(family: str, role: str) -> Recognizer:
    """Built and filled once; every test of this file shares it."""
    module = build_teacher(OURS[family]) if role == "teacher" else build_student(OURS[family], "published")
    module.load_state_dict(golden_state(module.state_dict()))
    return module.eval()


def assert_golden(actual: Tensor | None, expected: Tensor) -> None:
    assert actual is not None
    torch.testing.assert_close(actual, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("family", "role"), CASES)
@torch.inference_mode()
def test_logits_and_features_are_the_published_ones(family: str, role: str):
    expected = golden_arrays(f"{family}_{role}")
    output = golden_recognizer(family, role)(expected["image"])
    assert_golden(output.logits, expected["logits"])
    if family != "parseq":  # its golden files have features of the training forward alone
        assert_golden(output.visual, expected["visual_layer3"].flatten(2))
        assert_golden(output.semantic, expected["semantic"])
        assert_golden(output.attention, expected["attention"].flatten(2))


@pytest.mark.parametrize("role", ["teacher", "student"])
@torch.inference_mode()
def test_the_permuted_forward_of_parseq_is_the_published_one(role: str):
    expected = golden_arrays(f"parseq_{role}")
    output = golden_recognizer("parseq", role).forward_training(
        expected["image"], expected["target"], expected["perms"]
    )
    assert_golden(output.logits, expected["train_logits"])
    assert_golden(output.semantic, expected["train_semantic"])
    assert_golden(output.visual.transpose(1, 2), expected["train_visual"])


@pytest.mark.parametrize("family", OURS)
@torch.inference_mode()
def test_a_teacher_reads_the_enlarged_low_res_image_as_published(family: str):
    expected = golden_arrays(f"{family}_teacher")
    logits = golden_recognizer(family, "teacher")(enlarge(expected["lr_image"])).logits
    assert_golden(logits, expected["logits_from_lr_bicubic"])
