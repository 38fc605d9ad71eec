"""A student's file is enough to read with, and another's is refused."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from kdltr_core import load_student
from kdltr_core.config import RunConfig
from kdltr_core.files import NotWritten
from kdltr_core.inference.weights_files import add_notes, export_recognizer, load_recognizer
from kdltr_core.recognizers import build_student
from kdltr_core.recognizers.weights import read_metadata


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    torch.manual_seed(0)
    student = build_student("parseq_tiny", "published")
    export_recognizer(folder / "student", student, student.state_dict(), RunConfig(seed=7), step="12")
    return folder


@pytest.mark.parametrize("place", ["", "student", "student/student.safetensors"])
def test_run_folder_student_folder_and_file_are_the_same_student(place: str, run_folder: Path) -> None:
    torch.manual_seed(0)
    expected = build_student("parseq_tiny", "published").state_dict()
    loaded = load_recognizer(run_folder / place)
    assert not loaded.training
    assert all(torch.equal(v, expected[k]) for k, v in loaded.state_dict().items())


def test_the_export_says_what_it_is(run_folder: Path) -> None:
    assert read_metadata(run_folder / "student/student.safetensors") == {
        "recognizer": "parseq_tiny", "charset": "94", "image_size": "[16, 64]", "format": "kdltr-1", "step": "12",
    }  # fmt: skip
    assert RunConfig.from_yaml(run_folder / "student/config.yaml").seed == 7


def test_the_temperature_in_its_file_is_applied_to_what_it_says_and_not_to_what_it_reads(
    run_folder: Path, tmp_path: Path
) -> None:
    file = shutil.copy(run_folder / "student/student.safetensors", tmp_path / "student.safetensors")
    picture = np.random.default_rng(0).integers(0, 256, (20, 60, 3), np.uint8)
    [before] = load_student(file, "cpu")([picture])
    add_notes(Path(file), temperature="2.5")
    [after] = load_student(file, "cpu")([picture])
    assert after.text == before.text
    assert after.uncalibrated == pytest.approx(before.confidence)
    assert after.confidence < before.confidence
    assert read_metadata(file)["step"] == "12"


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("charset", "36", "charset '36', this version reads '94'"),
        ("image_size", "[8, 32]", r"image_size '\[8, 32\]', this version reads '\[16, 64\]'"),
        ("image_size", "[32, 128]", "does not fit Parseq for \\(32, 128\\) images"),
        ("recognizer", "parsek", "unknown recognizer 'parsek'"),
        ("recognizer", "parseq", "does not fit Parseq"),
        ("recognizer", None, "does not say which recognizer"),
    ],
)
def test_a_student_of_another_kind_is_refused(
    key: str, value: str | None, message: str, run_folder: Path, tmp_path: Path
) -> None:
    file = run_folder / "student/student.safetensors"
    metadata = {**read_metadata(file), key: value}
    save_file(load_file(file), tmp_path / "student.safetensors", {k: v for k, v in metadata.items() if v is not None})
    with pytest.raises(ValueError, match=message):
        load_recognizer(tmp_path)


def test_a_folder_without_student_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="is not a student"):
        load_student(tmp_path)


def test_a_student_that_finds_no_room_leaves_the_earlier_one_whole(small_disk: Path) -> None:
    student = build_student("parseq_tiny", "published")
    small = {"head.bias": torch.ones(95)}
    export_recognizer(small_disk, student, small, RunConfig(seed=1))
    with pytest.raises(NotWritten, match=r"could not be written .*; free some space"):
        export_recognizer(small_disk, student, student.state_dict(), RunConfig(seed=2))
    assert sorted(p.name for p in small_disk.iterdir()) == ["config.yaml", "student.safetensors"]
    assert torch.equal(load_file(small_disk / "student.safetensors")["head.bias"], torch.ones(95))
    assert RunConfig.from_yaml(small_disk / "config.yaml").seed == 1
