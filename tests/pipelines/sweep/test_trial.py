"""Trials one after the other in one process: nothing of one is left when the next begins."""

from __future__ import annotations

import queue
import sys
import threading
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from ray.air._internal.util import RunnerThread

from kdltr_core.config import RunConfig
from kdltr_core.train.distiller import Distiller
from pipelines.sweep import trial
from pipelines.sweep.study import ERROR_FILE
from tests.kdltr_core.small import build_small, save_teacher

MIB = 2**20


def tiny_run(folder: Path) -> RunConfig:
    fields = {
        "recognizer.name": "parseq_tiny",
        "recognizer.teacher_weights": save_teacher("parseq_tiny", folder),
        "num_steps": 2,
        "validate_every": 1,
        "optim.batch_size": 4,
        "objective.num_permutations": 2,
        "data.num_rendered_train": 64,
        "data.num_rendered_benchmark": 16,
        "data.cache_folder": str(folder / "cache"),
        "data.teacher_cache": "on",
    }
    return RunConfig().override(fields)


def stop(result: dict[str, Any]) -> None:
    sys.exit(0)  # what Tune's own does where a trial is to stop


def go_on(result: dict[str, Any]) -> None: ...


def break_down(result: dict[str, Any]) -> None:
    raise ValueError("the trial's own fault")


@pytest.mark.parametrize(
    ("report", "num_validations", "error"), [(go_on, 3, ""), (stop, 1, ""), (break_down, 1, "ValueError")]
)
def test_of_a_trial_that_ended_no_model_is_left_however_it_ended(
    report: Callable[[dict[str, Any]], None],
    num_validations: int,
    error: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    build_small(monkeypatch)
    monkeypatch.setattr(trial.tune, "report", report)
    built: list[weakref.ref[Distiller]] = []
    build = Distiller.__init__

    def noted(self: Distiller, *arguments: Any, **named: Any) -> None:
        build(self, *arguments, **named)
        built.append(weakref.ref(self))

    monkeypatch.setattr(Distiller, "__init__", noted)
    config, errors = tiny_run(tmp_path), queue.Queue[BaseException](1)
    for number in range(2):
        folder = tmp_path / str(number)
        folder.mkdir()
        (folder / "config.yaml").write_text(config.to_yaml(), encoding="utf-8")
        settings = {"folder": str(folder), "threads": 1, "workers": 0, "use_gpu": False, "benchmarks": False}
        thread = RunnerThread(target=trial.run_trial, args=(settings,), daemon=True, error_queue=errors)  # Tune's
        thread.start()
        thread.join()
        assert errors.empty()
        metrics_log = (folder / "metrics.jsonl").read_text().splitlines()
        assert sum("validation/word_accuracy" in line for line in metrics_log) == num_validations
        assert (folder / ERROR_FILE).exists() == bool(error)
        assert len(built) == number + 1
        # Without a collection: what waits for one may wait for many trials.
        assert [place for place, model in enumerate(built) if model() is not None] == []


@pytest.mark.skipif(sys.platform != "linux", reason="memory is counted as Linux tells it")
def test_what_one_trial_s_thread_freed_is_given_back_when_the_next_trial_begins(tmp_path: Path) -> None:
    """A heap with something kept at its end shrinks by itself only as far as that."""
    kept: list[torch.Tensor] = []

    def work() -> None:
        used = [torch.ones(MIB // 32) for _ in range(1024)]  # 128 KiB each: too small for mappings of their own
        kept.append(torch.ones(MIB // 32))
        del used

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    (tmp_path / "config.yaml").write_text("no_such_field: 1", encoding="utf-8")  # as far as that it comes
    before = anonymous()
    trial.run_trial({"folder": str(tmp_path), "threads": torch.get_num_threads(), "workers": 0})
    assert before - anonymous() > 64 * MIB
    assert "no_such_field" in (tmp_path / ERROR_FILE).read_text()
    assert len(kept) == 1


def anonymous() -> int:
    """Bytes of this process that are no file's."""
    lines = Path("/proc/self/smaps_rollup").read_text().splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith("Anonymous:"))
