"""Fit and read: exact resume, what is recorded and written, and losses that are not finite."""

from __future__ import annotations

import warnings
from pathlib import Path

import pytest
import torch

from kdltr_core.charset import Charset94
from kdltr_core.config import RunConfig
from kdltr_core.data.dataset import load_datasets
from kdltr_core.files import NotWritten
from kdltr_core.inference.weights_files import load_recognizer
from kdltr_core.train.build import build_pair
from kdltr_core.train.checkpoint import CheckpointStore, read_checkpoint
from kdltr_core.train.engine import TrainingDiverged
from tests.kdltr_core.small import STUDENTS, build_small, read_words
from tests.kdltr_core.train import runs
from tests.kdltr_core.train.runs import Interrupted, assert_same, leaves, run, write_words


@pytest.fixture(scope="module")
def roots(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_words(tmp_path_factory.mktemp("words"), "parseq_tiny", "abinet", "matrn")


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    build_small(monkeypatch, dropout=0.1)


def config_of(roots: Path, family: str = "parseq_tiny", **values: object) -> RunConfig:
    names = {"recognizer__name": family, "recognizer__teacher_weights": str(roots / f"{family}-0.pt")}
    return runs.config_of(roots, **names | values)


@pytest.mark.parametrize(
    ("family", "cut_at"), [("parseq_tiny", 1), ("parseq_tiny", 3), ("parseq_tiny", 5), ("abinet", 3), ("matrn", 3)]
)
def test_an_interrupted_run_ends_with_bitwise_the_same_state(
    family: str, cut_at: int, roots: Path, tmp_path: Path
) -> None:
    config = config_of(roots, family, optim__ema_decay=0.5, optim__schedule="cosine", optim__warmup_steps=2)
    whole, whole_records = run(config, tmp_path / "whole")
    begun_at: list[int] = []
    with pytest.raises(Interrupted):
        run(config, tmp_path / "cut", cut_at, on_start=begun_at.append)
    resumed, resumed_records = run(config, tmp_path / "cut", on_start=begun_at.append)
    assert resumed == whole
    assert begun_at == [0, (cut_at - 1) // 2 * 2]  # there is a checkpoint every two steps
    expected, actual = (leaves(read_checkpoint(tmp_path / n / "checkpoints/step-00000005")) for n in ("whole", "cut"))
    assert_same(actual, expected)
    for step, values in resumed_records.values.items():
        assert values.get("train/loss") == whole_records.values[step].get("train/loss"), step


def test_the_best_student_is_best_on_held_out_words_and_rendered_texts_in_the_mean(roots: Path, tmp_path: Path) -> None:
    config = config_of(roots, selection_words=16, num_steps=8, validate_every=1, recognizer__student_form="enlarging")
    result, records = run(config, tmp_path / "run")
    scores = {
        step: (values["validation/word_accuracy"] + values["validation/rendered_texts"]) / 2
        for step, values in records.values.items()
        if "validation/rendered_texts" in values
    }
    assert list(scores) == list(range(9))
    assert result.best_step == max(scores, key=lambda step: (scores[step], -step))
    assert result.best_validation_accuracy == scores[result.best_step]


def test_a_run_with_its_pixels_on_the_device_is_the_same_run(
    roots: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where nothing is degraded."""
    host, records = run(config_of(roots, data__train_degradation="none"), tmp_path / "host")
    monkeypatch.setattr("kdltr_core.train.engine.has_room", lambda num_pairs, device: True)
    device, others = run(config_of(roots, data__train_degradation="none"), tmp_path / "device")
    assert device == host
    for step, values in records.values.items():
        assert values.get("train/loss") == others.values[step].get("train/loss"), step


def test_another_seed_ends_elsewhere(roots: Path, tmp_path: Path) -> None:
    run(config_of(roots, num_steps=1), tmp_path / "one")
    run(config_of(roots, num_steps=1, seed=1), tmp_path / "two")
    weights = [read_checkpoint(tmp_path / n / "checkpoints/step-00000001")["distiller"] for n in ("one", "two")]
    assert not torch.equal(weights[0]["student.head.weight"], weights[1]["student.head.weight"])


def test_a_run_of_no_steps_exports_the_student_as_it_starts(roots: Path, tmp_path: Path) -> None:
    config = config_of(roots, num_steps=0)
    result, records = run(config, tmp_path)
    assert (result.step, result.best_step) == (0, 0)
    assert list(records.values) == [0]
    start = build_pair(config, torch.device("cpu"))[0].state_dict()
    exported = load_recognizer(tmp_path).state_dict()
    assert all(torch.equal(exported[key], value) for key, value in start.items())


def test_what_is_recorded_has_its_name_and_place_and_nothing_is_warned_of(roots: Path, tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        _, records = run(config_of(roots), tmp_path)
    assert list(records.values) == [0, 1, 2, 3, 4, 5]
    assert set(records.values[3]) == {f"train/{n}" for n in ("loss", "visual_focus", "semantic_contrast", "soft_logits",
        "cross_entropy", "gradient_norm", "learning_rate", "images_per_second", "epoch", "skipped_steps")}  # fmt: skip
    assert {s for s, v in records.values.items() if "validation/word_accuracy" in v} == {0, 4, 5}
    weighted = records.values[2]
    total = 4 * weighted["train/visual_focus"] + 2 * weighted["train/semantic_contrast"]
    total += 20 * weighted["train/soft_logits"] + 0.025 * weighted["train/cross_entropy"]
    assert weighted["train/loss"] == pytest.approx(total, rel=1e-5)


def test_the_supervised_objective_needs_no_teacher_file(roots: Path, tmp_path: Path) -> None:
    start = {"recognizer__student_start": "random", "recognizer__teacher_weights": "/nowhere"}
    _, records = run(config_of(roots, num_steps=1, objective__name="supervised", **start), tmp_path)
    assert records.values[1]["train/loss"] == records.values[1]["train/cross_entropy"]


def test_too_many_losses_in_a_row_that_are_not_finite_stop_the_run_with_a_diagnosis(
    roots: Path, tmp_path: Path
) -> None:
    config = config_of(roots, num_steps=12, objective__soft_logits=1e38, objective__visual_focus=1e38)
    with pytest.raises(TrainingDiverged, match=r"10 steps in a row up to step 10 .*lower optim.learning_rate"):
        run(config, tmp_path)


def test_a_checkpoint_that_cannot_be_written_does_not_end_the_training(
    roots: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = CheckpointStore.save

    def full_at_two(self: CheckpointStore, step: int, *args: object) -> Path:
        if step == 2:
            raise NotWritten("the checkpoint could not be written (no space)")
        return original(self, step, *args)  # type: ignore[arg-type]

    monkeypatch.setattr(CheckpointStore, "save", full_at_two)
    with pytest.warns(UserWarning, match="training continues and the next checkpoint is tried"):
        result, _ = run(config_of(roots), tmp_path)
    assert result.step == 5


def test_a_checkpoint_is_written_when_the_machine_is_about_to_go(roots: Path, tmp_path: Path) -> None:
    asked: list[bool] = []
    written: list[str] = []

    def going() -> bool:
        asked.append(True)
        return len(asked) == 2

    config = config_of(roots, num_steps=6, checkpoint_every=100, validate_every=100, keep_last=9, log_every=2)
    run(config, tmp_path, save_now=going, on_written=lambda folder: written.append(folder.name))
    # Asked whenever the loss is recorded, every two steps here; the last step is saved in any case.
    assert written[:3] == ["student", "step-00000000", "step-00000004"]
    assert [name for name in written[3:] if name != "student"] == ["step-00000006"]
    assert len(asked) == 2


@pytest.mark.parametrize("batch_size", [4, 50])
def test_progress_counts_every_image(batch_size: int, roots: Path) -> None:
    words = load_datasets(config_of(roots).data, Charset94).benchmarks["benchmark"]
    seen: list[tuple[int, int]] = []
    reader = STUDENTS["parseq_tiny"]()
    readings = read_words(reader, words, "low_res", batch_size=batch_size, progress=lambda *a: seen.append(a))
    assert len(readings) == 7
    assert seen[-1] == (7, 7)
    assert reader.training
    with pytest.raises(ValueError, match="unknown column 'mid_res'"):
        read_words(reader, words, "mid_res", batch_size=2)
