"""A student that enlarges its input itself is, with its teacher's weights, the teacher that reads enlarged images."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from kdltr_core.config import RunConfig
from kdltr_core.inference.weights_files import export_recognizer, load_recognizer
from kdltr_core.recognizers import build_student, build_teacher
from kdltr_core.recognizers.weights import start_from_teacher
from tests.kdltr_core.small import TEACHERS, build_small, drawn_batch


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    build_small(monkeypatch)


def enlarged(images: torch.Tensor) -> torch.Tensor:
    return F.interpolate(images, (32, 128), mode="bicubic", align_corners=True)


@pytest.mark.parametrize("name", TEACHERS)
def test_before_training_it_reads_what_the_teacher_reads_enlarged(name: str) -> None:
    torch.manual_seed(0)
    teacher, student = build_teacher(name).eval(), build_student(name, "enlarging").eval()
    start_from_teacher(student, teacher, "teacher")
    _, pixels, targets, _, orders = drawn_batch(teacher, "Hello", "a", "LTR7")
    images = pixels / 255
    with torch.inference_mode():
        mine, theirs = student(images), teacher(enlarged(images))
        assert torch.equal(mine.logits, theirs.logits)
        assert torch.equal(mine.visual, theirs.visual)
        trained = student.forward_training(images, targets, orders).logits
        assert torch.equal(trained, teacher.forward_training(enlarged(images), targets, orders).logits)


def test_a_random_patch_kernel_is_of_the_published_form() -> None:
    student, teacher = build_student("parseq", "enlarging"), build_teacher("parseq")
    with pytest.raises(ValueError, match=r"or recognizer\.student_form published"):
        start_from_teacher(student, teacher, "random_patch")


@pytest.mark.parametrize("form", ["enlarging", "published"])
def test_a_student_is_loaded_in_the_form_that_it_was_written_in(tmp_path: Path, form: str) -> None:
    config = RunConfig().override({"recognizer.student_form": form})
    torch.manual_seed(1)
    student = build_student("parseq_tiny", config.recognizer.student_form).eval()
    export_recognizer(tmp_path, student, student.state_dict(), config)
    loaded = load_recognizer(tmp_path)
    assert loaded.enlarges == (form == "enlarging")
    images = torch.rand(2, 3, 16, 64)
    with torch.inference_mode():
        assert torch.equal(loaded(images).logits, student(images).logits)
