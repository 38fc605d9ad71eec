"""ABINet, its vision part and MATRN compute what the published implementation computes."""

from __future__ import annotations

import functools
import json

import pytest
import torch
from torch import Tensor

from kdltr_core.data.images import enlarge
from kdltr_core.recognizers import Recognizer, RecognizerOutput, build_student, build_teacher
from tests.golden_weights import GOLDEN, golden_arrays, golden_state

OURS = {"basevision": "abinet_vision", "abinet": "abinet", "matrn": "matrn"}
CASES = [(family, role) for family in OURS for role in ("student", "teacher")]


@functools.cache
def golden_recognizer(family: str, role: str) -> Recognizer:
    """Built and filled once; every test of this file shares it."""
    module = (build_teacher if role == "teacher" else build_student)(OURS[family])
    module.load_state_dict(golden_state(module.state_dict()))
    return module.eval()


@functools.cache
def golden_reading(family: str, role: str) -> tuple[RecognizerOutput, dict[str, Tensor]]:
    arrays = golden_arrays(f"{family}_{role}")
    with torch.inference_mode():
        return golden_recognizer(family, role)(arrays["image"]), arrays


def assert_golden(actual: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(actual, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("family", "role"), CASES)
def test_keys_and_shapes_are_those_of_the_official_checkpoints(family: str, role: str):
    shapes = json.loads((GOLDEN / "state_dict_shapes.json").read_text())[f"{family}_{role}"]
    state = golden_recognizer(family, role).state_dict()
    assert {key: list(value.shape) for key, value in state.items()} == shapes


@pytest.mark.parametrize(("family", "role"), CASES)
def test_logits_and_features_are_the_published_ones(family: str, role: str):
    output, expected = golden_reading(family, role)
    assert_golden(output.logits, expected["logits"])
    assert_golden(output.visual, expected["visual_layer3"].flatten(2))
    assert output.semantic is not None
    assert output.attention is not None
    assert_golden(output.semantic, expected["semantic"])
    assert_golden(output.attention, expected["attention"].flatten(2))


@pytest.mark.parametrize("family", OURS)
def test_a_teacher_reads_the_enlarged_low_res_image_as_published(family: str):
    expected = golden_arrays(f"{family}_teacher")
    with torch.inference_mode():
        logits = golden_recognizer(family, "teacher")(enlarge(expected["lr_image"])).logits
    assert_golden(logits, expected["logits_from_lr_bicubic"])
