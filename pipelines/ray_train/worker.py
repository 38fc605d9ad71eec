"""What each Ray worker runs: the seam between Ray Train and the core, which knows nothing of Ray."""

from __future__ import annotations

import os
import time
import warnings
from collections.abc import Callable, Mapping
from typing import Any

import ray.train
import ray.train.torch
import torch

from kdltr_core.config import RunConfig, Trained
from kdltr_core.data.dataset import DatasetsDescription, load_datasets
from kdltr_core.distributed import DistributedContext
from kdltr_core.evaluation.table import BenchmarkTable
from kdltr_core.files import NotWritten
from kdltr_core.recognizers.registry import charset_of
from kdltr_core.train.engine import TrainingDiverged, fit
from pipelines.run.metrics_log import MetricsLog
from pipelines.run.run_place import RunPlace, run_place

SECONDS_BETWEEN_NOTES = 10.0


def train_worker(settings: dict[str, Any]) -> bool:
    """Train, then read the benchmarks; the same on every worker.

    Args:
        settings: "config" (the run's fields), "run_folder" (a path, the same on all nodes, or a URI), "run_id" and
            "datasets" (the driver's description of them).

    Returns: whether this is the end of the run, rather than of a group that came after a refusal.
    """
    config = RunConfig.model_validate(settings["config"])
    place = run_place(settings["run_folder"], config)
    # What is wrong with the input stays wrong when Ray rebuilds the group: the second group leaves at once.
    if place.is_refused:
        return False
    try:
        _train(config, place, settings["run_id"], settings["datasets"])
    except (ValueError, TrainingDiverged, NotWritten) as error:
        place.refuse(str(error))
        raise
    return True


def _train(config: RunConfig, place: RunPlace, run_id: str, datasets: DatasetsDescription) -> None:
    # Ray gives every worker one OpenMP thread; the cores of this machine are there to be shared out.
    here = ray.train.get_context().get_local_world_size()
    torch.set_num_threads(max(1, len(os.sched_getaffinity(0)) // here))
    if torch.cuda.is_available():
        torch.cuda.set_device(ray.train.torch.get_device())
    world = DistributedContext.current()
    metrics_log = place.open_metrics_log() if world.is_main else None
    if metrics_log is not None:
        _hand_on_warnings(metrics_log)
    place.begin(world)

    def record(step: int, metrics: Mapping[str, float]) -> None:
        assert metrics_log is not None
        metrics_log.record(step, metrics)
        place.recorded()

    def tell_start(step: int) -> None:
        if metrics_log is not None and (sentence := start_sentence(step, world.size, config.workers)):
            metrics_log.note(sentence)

    notice = False

    def is_going() -> bool:
        nonlocal notice
        earlier, notice = notice, ray.train.get_preemption_info() is not None
        if metrics_log is not None and notice and not earlier:
            metrics_log.note(
                "a machine of this run is about to be taken away; a checkpoint is written every few seconds"
            )
        return notice

    words = load_datasets(config.data, charset_of(config), description=datasets)
    result = fit(
        config,
        words,
        run_folder=place.path,
        record=record,
        world=world,
        run_id=run_id,
        on_start=tell_start,
        on_checkpoint=lambda step, values: ray.train.report({"step": step, **values}),
        on_written=place.written,
        save_now=is_going,
    )
    place.trained(world)
    # Not at the top: the first step need not wait for the library that draws.
    from kdltr_core.evaluation.benchmarks import open_readers, read_benchmarks
    from pipelines.report.examples import write_evaluation
    from pipelines.report.plots import draw_curves

    note = metrics_log.note if metrics_log else lambda _: None
    readers = open_readers([place.path], world.device, note=note, cache_folder=config.data.cache_folder)
    table = read_benchmarks(
        readers,
        words.benchmarks,
        batch_size=config.evaluation_batch_size,
        world=world,
        progress=_now_and_then(metrics_log.note) if metrics_log else None,
    )
    if metrics_log is not None:
        metrics_log.record(result.step, table_metrics(table, config.recognizer.trained))
        evaluation = place.path / "evaluation"
        write_evaluation(evaluation, table, words.benchmarks)
        draw_curves(evaluation / "curves.png", place.path / "metrics.jsonl", config.recognizer.trained_column)
    place.finished(world)


def start_sentence(step: int, size: int, workers: int) -> str:
    """What a person is told when a group of workers begins; '' where nothing has to be said."""
    begins = f"going on from step {step}" if step else "beginning"
    if size < workers:
        shares = f"up to {-(-workers // size)} shares of every batch"
        return f"{begins} on {size} of {workers} workers: each computes {shares}, the result is the same"
    if workers > 1:
        return f"{begins} on {workers} workers"
    return begins if step else ""


def table_metrics(table: BenchmarkTable, trained: Trained = "student") -> dict[str, float]:
    """Word accuracies in percent, by set and reader. What was trained is the best of the run, not the last."""
    names = {column: column.key.replace(trained, f"best_{trained}") for column in table.columns}
    metrics = {
        f"benchmark/{name}/{names[column]}": 100 * cell.accuracy
        for name, cells in table.scores.items()
        for column, cell in cells.items()
    }
    return metrics | {f"benchmark/weighted_mean/{names[c]}": 100 * table.weighted(c)[0] for c in table.columns}


def _now_and_then(say: Callable[[str], None]) -> Callable[[int, int], None]:
    """A progress that says how far the reading of the benchmarks is, every so many seconds and at the end."""
    last = 0.0

    def progress(done: int, total: int) -> None:
        nonlocal last
        if done == total or time.monotonic() - last >= SECONDS_BETWEEN_NOTES:
            last = time.monotonic()
            say(f"reading the benchmarks: {100 * done // total} %")

    return progress


def _hand_on_warnings(metrics_log: MetricsLog) -> None:
    """Warnings, for instance of a full disk or of an object store, reach the person who waits at the driver."""
    show = warnings.showwarning

    def note(message: Warning | str, category: type[Warning], filename: str, *place: Any, **more: Any) -> None:
        if "kdltr_core" in filename or "run_place" in filename:
            metrics_log.note(f"warning: {message}")
        show(message, category, filename, *place, **more)

    warnings.showwarning = note
