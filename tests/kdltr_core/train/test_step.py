"""A training step: a GPU can record it, and what it records is the step."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import torch

from kdltr_core.charset import Charset
from kdltr_core.config import RecognizerName, RunConfig
from kdltr_core.data.batch import Batch, encode_targets, valid_rows
from kdltr_core.data.dataset import TrainingPairs
from kdltr_core.data.pack import build_pack
from kdltr_core.distributed import DistributedContext
from kdltr_core.train.checkpoint import read_checkpoint
from kdltr_core.train.step import TrainingStep
from tests.kdltr_core.data.sets import single_records, write_records
from tests.kdltr_core.replay import Operations, Reads, replay_on_cpu
from tests.kdltr_core.small import build_small, save_teacher
from tests.kdltr_core.train.runs import Interrupted, assert_same, config_of, leaves, run, write_words

LABELS = ["Hello", "a", "kd7", "EXIT"]
NEVER = 10**6


def make_step(name: str, folder: Path, **values: object) -> tuple[TrainingStep, TrainingPairs]:
    folder.mkdir()
    pack = build_pack(write_records(folder / "set", single_records(LABELS)), cache_folder=folder / "cache")
    pairs = TrainingPairs([pack], np.arange(len(pack)), "none")
    config = RunConfig().override(
        {
            "recognizer.name": name,
            "recognizer.teacher_weights": save_teacher(name, folder),
            "optim.batch_size": 4,
            **{field.replace("__", "."): value for field, value in values.items()},
        }
    )
    return TrainingStep(config, pairs, DistributedContext(), [0]), pairs


def make_batch(pairs: TrainingPairs, charset: Charset, num_steps: int | None) -> Batch:
    targets, lengths = encode_targets(LABELS, charset, num_steps)
    rows = np.arange(len(LABELS))
    steps = valid_rows(lengths, targets.shape[1] - 1)
    return Batch(*pairs.gather(rows), tuple(LABELS), targets, lengths, rows, steps)


@pytest.fixture(autouse=True)
def plain_lstm() -> Iterator[None]:
    """oneDNN's LSTM keeps what its backward needs where no operation shows it."""
    with torch.backends.mkldnn.flags(enabled=False):
        yield


CASES = [*((name, "distillation") for name in get_args(RecognizerName)), ("matrn", "supervised")]


@pytest.mark.parametrize(("name", "objective"), CASES)
def test_a_recorded_step_is_the_eager_one_bitwise(
    name: str, objective: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No operation waits for the device, and all that changes is the device's: rates, dropout, a non-finite step."""
    build_small(monkeypatch, dropout=0.1)
    ends = []
    for after in (NEVER, 1):
        made = replay_on_cpu(monkeypatch, after)
        step, pairs = make_step(name, tmp_path / str(after), objective__name=objective, optim__ema_decay=0.5)
        step.begin()
        batch = make_batch(pairs, step.distiller.student.charset, step.distiller.student.fixed_num_steps)
        for number, (rate, num_valid_steps) in enumerate(((1.0, 20.0), (0.5, 10.0), (2.0, 0.0), (2.0, 20.0))):
            step.run(number, [batch], rate, torch.tensor(num_valid_steps))
        ends.append({**leaves(step.state()), **step.meters.sums})
        assert step.meters.sums["skipped"] == 1
    assert (made[0].num_recorded, made[0].num_replayed) == (2, 4)
    assert_same(ends[1], ends[0])


def test_a_step_that_is_not_finite_changes_neither_weights_nor_statistics_and_is_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    build_small(monkeypatch)
    step, pairs = make_step("abinet_vision", tmp_path / "run")
    batch, ends = make_batch(pairs, step.distiller.student.charset, step.distiller.student.fixed_num_steps), []
    for number, num_valid_steps in enumerate((20.0, 0.0, 20.0)):
        step.run(number, [batch], 1.0, torch.tensor(num_valid_steps))
        step.meters.take()
        ends.append(leaves(copy.deepcopy(step.state())))
    assert [end.pop("/num_skipped") for end in ends] == [0, 1, 1]
    assert_same(ends[1], ends[0])
    moved = {name for name, value in ends[2].items() if "running_" in name and not torch.equal(value, ends[1][name])}
    assert moved == {name for name in ends[2] if "running_" in name}


def test_a_run_is_the_same_whether_recorded_or_not_and_resumes_either(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two micro-batches a step, of several widths."""
    build_small(monkeypatch, dropout=0.1)
    roots = write_words(tmp_path, "parseq_tiny")
    teacher = save_teacher("parseq_tiny", tmp_path)
    config = config_of(roots, workers=2, num_steps=8, recognizer__teacher_weights=teacher)
    ends = {}
    for name, first, then in (("eager", NEVER, None), ("recorded first", 1, NEVER), ("recorded then", NEVER, 1)):
        made = [replay_on_cpu(monkeypatch, first)]
        if then is not None:
            with pytest.raises(Interrupted):
                run(config, tmp_path / name, cut_at=5)
            made.append(replay_on_cpu(monkeypatch, then))
        run(config, tmp_path / name)
        assert any(each.num_replayed > 0 for recorders in made for each in recorders) == (then is not None)
        ends[name] = leaves(read_checkpoint(tmp_path / name / "checkpoints/step-00000008"))
    assert_same(ends["recorded first"], ends["eager"])
    assert_same(ends["recorded then"], ends["eager"])


def test_a_step_that_cannot_be_recorded_goes_on_and_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    build_small(monkeypatch)
    replay_on_cpu(monkeypatch)
    step, pairs = make_step("parseq_tiny", tmp_path / "asks")
    step.begin()
    assert step.teacher is not None
    encode = step.teacher.encode
    monkeypatch.setattr(step.teacher, "encode", lambda images: encode(images) if images.sum().item() else {})
    batch = make_batch(pairs, step.distiller.student.charset, None)
    norms = []
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        for number in range(4):
            step.run(number, [batch], 1.0, None)
            norms.append(step.meters.sums["gradient_norm"].item())
    assert [str(warning.message).split(" (")[0] for warning in told] == ["no CUDA graph could be made"]
    assert norms == sorted(set(norms))


@pytest.mark.parametrize(
    "wait", [lambda x: x.item(), lambda x: x.tolist(), lambda x: bool(x.sum() > 0), lambda x: x[x > 0]]
)
def test_a_wait_is_refused(wait: Any) -> None:
    with pytest.raises(RuntimeError, match="waits for the device"), Reads(), Operations():
        wait(torch.ones(1))
