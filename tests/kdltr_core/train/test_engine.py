"""Fit and read: exact resume, one worker or two, and losses that are not finite."""

from __future__ import annotations

import warnings
from contextlib import suppress
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from kdltr_core.charset import Charset94
from kdltr_core.config import RunConfig
from kdltr_core.data.dataset import Datasets, load_datasets
from kdltr_core.distributed import DistributedContext
from kdltr_core.files import NotWritten
from kdltr_core.inference.weights_files import load_recognizer
from kdltr_core.train.build import build_pair
from kdltr_core.train.checkpoint import CheckpointStore, read_checkpoint
from kdltr_core.train.engine import TrainingDiverged, fit
from tests.kdltr_core.small import STUDENTS, build_small, read_words
from tests.kdltr_core.train import runs
from tests.kdltr_core.train.runs import Interrupted, Records, leaves, run, write_words


@pytest.fixture(scope="module")
def roots(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_words(tmp_path_factory.mktemp("words"), "parseq_tiny")


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    build_small(monkeypatch, dropout=0.1)


def config_of(roots: Path, **values: object) -> RunConfig:
    return runs.config_of(roots, **{"recognizer__teacher_weights": str(roots / "parseq_tiny-0.pt"), **values})


@pytest.mark.parametrize("cut_at", [1, 3, 5])
def test_an_interrupted_run_ends_with_bitwise_the_same_state(cut_at: int, roots: Path, tmp_path: Path) -> None:
    config = config_of(roots, optim__ema_decay=0.5, optim__schedule="cosine", optim__warmup_steps=2)
    whole, whole_records = run(config, tmp_path / "whole")
    with pytest.raises(Interrupted):
        run(config, tmp_path / "cut", cut_at)
    resumed, resumed_records = run(config, tmp_path / "cut")
    assert resumed == whole
    expected = leaves(read_checkpoint(tmp_path / "whole/checkpoints/step-00000005"))
    actual = leaves(read_checkpoint(tmp_path / "cut/checkpoints/step-00000005"))
    assert expected.keys() == actual.keys()
    for place, value in expected.items():
        if place == "/metrics/train/images_per_second":
            continue
        same = torch.equal(value, actual[place]) if isinstance(value, torch.Tensor) else value == actual[place]
        assert same, place
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


def test_the_step_that_training_goes_on_from_is_told(roots: Path, tmp_path: Path) -> None:
    told: list[int] = []
    config = config_of(roots)
    words = load_datasets(config.data, Charset94)
    for cut_at in (3, None):
        with suppress(Interrupted):
            fit(config, words, run_folder=tmp_path, record=Records(cut_at), on_start=told.append)
    assert told == [0, 2]


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


def test_what_is_recorded_has_its_name_and_place(roots: Path, tmp_path: Path) -> None:
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
    config = config_of(
        roots,
        num_steps=1,
        objective__name="supervised",
        recognizer__student_start="random",
        recognizer__teacher_weights="/nowhere",
    )
    _, records = run(config, tmp_path)
    assert records.values[1]["train/loss"] == records.values[1]["train/cross_entropy"]


def test_too_many_losses_in_a_row_that_are_not_finite_stop_the_run_with_a_diagnosis(
    roots: Path, tmp_path: Path
) -> None:
    config = config_of(roots, num_steps=12, objective__soft_logits=1e38, objective__visual_focus=1e38)
    with pytest.raises(
        TrainingDiverged, match=r"not finite in 10 steps in a row up to step 10 .*lower optim.learning_rate"
    ):
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


def work(rank: int, rendezvous: str, roots: Path, folder: Path) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{rendezvous}", rank=rank, world_size=2)
    world = DistributedContext.current()
    with pytest.MonkeyPatch.context() as monkeypatch:
        build_small(monkeypatch, dropout=0.1)
        result, records = run(config_of(roots, workers=2, num_steps=2), folder / "run", world=world)
        pack = load_datasets(config_of(roots).data, Charset94).benchmarks["benchmark"]
        student = load_recognizer(folder / "run")
    readings = read_words(student, pack, "low_res", batch_size=2, world=world, precision="float32")
    torch.save({"result": vars(result), "records": records.values, "readings": readings}, folder / f"fit-{rank}.pt")
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def two_workers(roots: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("two")
    mp.spawn(work, (str(folder / "rendezvous"), roots, folder), nprocs=2)
    return folder


def test_two_workers_agree_and_only_the_first_records(two_workers: Path) -> None:
    first, second = (torch.load(two_workers / f"fit-{rank}.pt") for rank in (0, 1))
    assert first["result"] == second["result"]
    assert first["readings"] == second["readings"]
    assert list(first["records"]) == [0, 1, 2]
    assert second["records"] == {}


def test_one_worker_that_computes_both_shares_ends_where_two_workers_end(
    two_workers: Path, roots: Path, tmp_path: Path
) -> None:
    run(config_of(roots, workers=2, num_steps=2, keep_last=9), tmp_path)
    start, alone = (leaves(read_checkpoint(tmp_path / f"checkpoints/step-0000000{n}")["distiller"]) for n in (0, 2))
    together = leaves(read_checkpoint(two_workers / "run/checkpoints/step-00000002")["distiller"])
    # Adam's first steps go by the sign of the gradient, so what two workers round differently may part by a step.
    rate, far = 1e-4, 0
    for name, value in alone.items():
        assert isinstance(value, torch.Tensor)
        apart = (together[name] - value).abs()
        assert float(apart.max()) <= 4 * rate, name
        far += int((apart > 0.02 * rate).sum())
    size = sum(value.numel() for value in alone.values())  # type: ignore[attr-defined]
    assert far < 1e-3 * size
    moved = sum(int(((value - start[name]).abs() > 0.5e-4).sum()) for name, value in alone.items())  # type: ignore[operator]
    assert moved > 0.5 * size


def test_a_checkpoint_is_written_when_the_machine_is_about_to_go(roots: Path, tmp_path: Path) -> None:
    asked: list[bool] = []
    written: list[str] = []

    def going() -> bool:
        asked.append(True)
        return len(asked) == 2

    config = config_of(roots, num_steps=6, checkpoint_every=100, validate_every=100, keep_last=9, log_every=2)
    words = load_datasets(config.data, Charset94)
    fit(
        config,
        words,
        run_folder=tmp_path,
        record=Records(),
        save_now=going,
        on_written=lambda folder: written.append(folder.name),
    )
    # Asked whenever the loss is recorded, every two steps here; the last step is saved in any case.
    assert written[:3] == ["student", "step-00000000", "step-00000004"]
    assert [name for name in written[3:] if name != "student"] == ["step-00000006"]
    assert len(asked) == 2


def test_two_workers_read_every_image_once_and_as_one_would(two_workers: Path, roots: Path) -> None:
    config = config_of(roots)
    pack = load_datasets(config.data, Charset94).benchmarks["benchmark"]
    assert len(pack) % 2 == 1  # an uneven share must not be padded
    alone = read_words(load_recognizer(two_workers / "run"), pack, "low_res", batch_size=3, precision="float32")
    assert torch.load(two_workers / "fit-0.pt")["readings"] == alone


@pytest.mark.parametrize("batch_size", [4, 50])
def test_progress_counts_every_image(batch_size: int, roots: Path) -> None:
    words: Datasets = load_datasets(config_of(roots).data, Charset94)
    seen: list[tuple[int, int]] = []
    reader = STUDENTS["parseq_tiny"]()
    readings = read_words(
        reader, words.benchmarks["benchmark"], "low_res", batch_size=batch_size, progress=lambda *a: seen.append(a)
    )
    assert len(readings) == 7
    assert seen[-1] == (7, 7)
    assert reader.training
    with pytest.raises(ValueError, match="unknown column 'mid_res'"):
        read_words(reader, words.benchmarks["benchmark"], "mid_res", batch_size=2)


def test_no_warning_is_given_by_a_plain_run(roots: Path, tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        run(config_of(roots, num_steps=1), tmp_path)
