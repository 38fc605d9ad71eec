"""A student whose teacher is of another size or family: what it starts from, what is kept, what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from kdltr_core.config import RunConfig
from kdltr_core.inference.weights_files import load_recognizer
from kdltr_core.recognizers.weights import PATCH_KERNEL
from kdltr_core.train.build import build_pair
from kdltr_core.train.checkpoint import read_checkpoint
from tests.kdltr_core.small import STUDENTS, TEACHERS, build_small
from tests.kdltr_core.train import runs
from tests.kdltr_core.train.runs import assert_same, run, write_words

CPU = torch.device("cpu")
PROJECTIONS = {f"{kind}_projection.{name}" for kind in ("visual", "semantic") for name in ("weight", "bias")}


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    build_small(monkeypatch)


@pytest.fixture(scope="module")
def roots(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_words(tmp_path_factory.mktemp("words"), *TEACHERS)


def config_of(roots: Path, student: str, teacher: str, **values: object) -> RunConfig:
    short = {"num_steps": 2, "validate_every": 2, "checkpoint_every": 1, "keep_last": 9}
    names = {"recognizer__name": student, "recognizer__teacher_name": teacher}
    file = {"recognizer__teacher_weights": str(roots / f"{teacher}-0.pt")}
    return runs.config_of(roots, **(names | file | short | values))


def started_at(roots: Path, student: str) -> dict[str, str]:
    return {"recognizer__student_weights": str(roots / f"{student}-0.pt")}


def test_projections_are_kept_in_checkpoints_and_left_behind_at_the_end(roots: Path, tmp_path: Path) -> None:
    config = config_of(roots, "parseq_tiny", "parseq", **started_at(roots, "parseq_tiny"))

    def go(num_steps: int, folder: str) -> dict[str, Tensor]:
        run(config.override({"num_steps": num_steps}), tmp_path / folder)
        return read_checkpoint(tmp_path / folder / f"checkpoints/step-{num_steps:08d}")["distiller"]

    first, last = go(1, "resumed"), go(2, "resumed")
    assert last.keys() > PROJECTIONS
    assert all(not torch.equal(first[name], last[name]) for name in PROJECTIONS)
    assert_same(go(2, "whole"), last)
    exported = load_recognizer(tmp_path / "whole")
    assert exported.state_dict().keys() == STUDENTS["parseq_tiny"]().state_dict().keys()


def test_a_tiny_student_of_a_larger_teacher_starts_from_its_own_high_res_weights(roots: Path) -> None:
    student, teacher = build_pair(config_of(roots, "parseq_tiny", "parseq", **started_at(roots, "parseq_tiny")), CPU)
    assert teacher is not None
    assert (student.semantic_width, teacher.semantic_width) == (32, 48)
    own = dict(torch.load(roots / "parseq_tiny-0.pt"))
    state = student.state_dict()
    assert state.pop(PATCH_KERNEL).shape[2:] == (2, 4)
    del own[PATCH_KERNEL]
    assert_same(state, own)
    assert_same(teacher.state_dict(), torch.load(roots / "parseq-0.pt"))


@pytest.mark.parametrize("teacher", ["abinet", "matrn"])
def test_a_vision_part_starts_from_that_of_its_teacher(teacher: str, roots: Path) -> None:
    student, model = build_pair(config_of(roots, "abinet_vision", teacher), CPU)
    assert model is not None
    part = {k.removeprefix("vision."): v for k, v in model.state_dict().items() if k.startswith("vision.")}
    shortcut = "backbone.resnet.layer1.0.downsample."
    assert any(key.startswith(shortcut) for key in part)
    assert_same(student.state_dict(), {k: v for k, v in part.items() if not k.startswith(shortcut)})


@pytest.mark.parametrize(
    ("student", "teacher", "values", "said"),
    [
        ("abinet", "parseq", {}, "differ in their alphabet: 36 and 94; choose recognizer.teacher_name"),
        ("parseq_tiny", "matrn", {}, "differ in their alphabet: 94 and 36; choose recognizer.teacher_name"),
        ("parseq_tiny", "parseq", {}, "cannot start from its teacher, .* or give recognizer.student_weights"),
        ("abinet", "abinet_vision", {}, "cannot start from its teacher, .* or give recognizer.student_weights"),
        ("matrn", "abinet", {}, "cannot start from its teacher, .* or give recognizer.student_weights"),
        ("abinet", "parseq", {"objective__name": "supervised"}, "choose recognizer.student_start random"),
        ("matrn", "matrn", {"recognizer__student_start": "random_patch"}, "random_patch is for PARSeq"),
    ],
)
def test_a_teacher_that_does_not_fit_is_refused_in_a_sentence(
    student: str, teacher: str, values: dict[str, object], said: str, roots: Path
) -> None:
    with pytest.raises(ValueError, match=said) as refusal:
        build_pair(config_of(roots, student, teacher, **values), CPU)
    assert "\n" not in str(refusal.value)
