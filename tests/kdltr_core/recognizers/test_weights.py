"""Weights into recognizers: everything that does not fit is named; what a student starts from."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from kdltr_core.recognizers import Recognizer
from kdltr_core.recognizers.weights import load_weights, start_from_teacher
from tests.kdltr_core.small import STUDENTS, TEACHERS

LOW, HIGH = (2, 4), (4, 8)  # patches


def small_teacher(seed: int = 0) -> Recognizer:
    torch.manual_seed(seed)
    return TEACHERS["parseq_tiny"]().eval()


def small_student() -> Recognizer:
    torch.manual_seed(1)
    return STUDENTS["parseq_tiny"]().eval()


def test_all_that_does_not_fit_is_listed_and_nothing_is_loaded(tmp_path: Path) -> None:
    state = small_teacher(5).state_dict()
    del state["head.bias"], state["pos_queries"]
    state["head.extra"] = torch.zeros(2)
    state["decoder.norm.weight"] = torch.zeros(7)
    model = small_teacher(6)
    before = {k: v.clone() for k, v in model.state_dict().items()}
    torch.save(state, tmp_path / "weights.pt")
    with pytest.raises(ValueError, match="does not fit Parseq") as error:
        load_weights(model, tmp_path / "weights.pt")
    for words in (
        "missing in the file: head.bias",
        "missing in the file: pos_queries",
        "unexpected in the file: head.extra",
        "decoder.norm.weight is [7], expected [32]",
    ):
        assert words in str(error.value)
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())


def test_a_resampled_student_sees_each_patch_as_the_teacher_sees_it_enlarged() -> None:
    """Where every high-res patch is the low-res patch enlarged by itself, tokens and predictions are equal."""
    teacher, student = small_teacher(), small_student()
    start_from_teacher(student, teacher, "teacher")
    low = torch.rand(2, 3, 16, 64)
    patches = F.unfold(low.flatten(0, 1)[:, None], LOW, stride=LOW).mT.reshape(-1, 1, *LOW)
    enlarged = F.interpolate(patches, scale_factor=2, mode="bilinear").view(6, -1, 32).mT
    high = F.fold(enlarged, (32, 128), HIGH, stride=HIGH).view(2, 3, 32, 128)
    with torch.no_grad():
        torch.testing.assert_close(student(low).visual, teacher(high).visual, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(student(low).logits, teacher(high).logits, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("start", "own"), [("random_patch", "patch_embed"), ("random", "")])
def test_what_starts_at_random_is_the_students_own_and_the_rest_its_teachers(start: str, own: str) -> None:
    teacher, student = small_teacher(), small_student()
    expected = {k: v.clone() if own in k else teacher.state_dict()[k] for k, v in student.state_dict().items()}
    start_from_teacher(student, teacher, start)
    assert [k for k, v in student.state_dict().items() if not torch.equal(v, expected[k])] == []
