"""What a trial runs: the core's ``fit`` in a process of Ray Tune, or on a group of Ray Train workers of its own."""

from __future__ import annotations

import functools
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import ray.train
import ray.train.torch
import torch
from ray import tune
from ray.train import FailureConfig, ScalingConfig, TrainingFailedError
from ray.train.torch import TorchTrainer
from ray.tune.integration.ray_train import TuneReportCallback

from kdltr_core.config import RunConfig
from kdltr_core.data.dataset import load_datasets
from kdltr_core.distributed import DistributedContext
from kdltr_core.evaluation.benchmarks import open_readers, read_benchmarks
from kdltr_core.files import NotWritten, locked, write_text
from kdltr_core.recognizers.registry import charset_of
from kdltr_core.train.engine import TrainingDiverged, fit, total_steps
from pipelines.report.examples import write_evaluation
from pipelines.run.metrics_log import MetricsLog
from pipelines.sweep.resources import WORKER_CPUS, give_back_memory, note_placement, release_placement
from pipelines.sweep.study import ACCURACY, ERROR_FILE, best_accuracy

# What a trial reports after each validation, both in %.
ACCURACY_NOW, PERCENT_DONE = "word_accuracy", "percent_done"
# The best student so far is what a trial is judged by.
BEST_ACCURACY = "validation/best_word_accuracy"
SECONDS_FOR_OTHERS = 120.0
# Where a trial with workers of its own finds that it is to stop.
STOP_FILE = "stop"

# Once in a process, which tries one point after the other.
_load_datasets = functools.lru_cache(maxsize=2)(load_datasets)


class _Stopped(Exception):
    """The trial was asked to stop, and all its workers know."""


def run_trial(settings: dict[str, Any]) -> None:
    """One trial, from its newest checkpoint on; Tune may stop it whenever it reports.

    Args:
        settings: "folder" (absolute, the same on all nodes; its config.yaml is what is trained), "threads", "workers"
            (0: in this process), "use_gpu", "benchmarks": whether they are read at the end, and "datasets": the
            description that the driver has of them.
    """
    folder = Path(settings["folder"])
    # Tune tries again what was lost with its process; an error would come again.
    if (folder / ERROR_FILE).exists():
        return
    try:
        # Of a driver that was killed, trials may live on for some seconds.
        with locked(folder / ".lock", SECONDS_FOR_OTHERS):
            if settings["workers"]:
                release_placement(folder)  # of this trial under a process that was lost
                _on_workers(settings)
            else:
                torch.set_num_threads(settings["threads"])
                give_back_memory()  # of the trial before this one, on a machine that others share
                _train(settings, DistributedContext.current(), tune.report)
    except _Stopped:
        return
    except (ValueError, TrainingDiverged, NotWritten) as error:
        leave_error(folder, error)
    except Exception as error:
        leave_error(folder, error)
        raise  # who knows what state the process is in, its GPU above all: Tune takes another


def leave_error(folder: Path, error: Exception) -> None:
    """For the driver: the kind of error and the first line of its message, then where it came from."""
    if not (folder / ERROR_FILE).exists():  # else a worker has said it better
        lines = str(error).strip().splitlines() or [""]
        account = "".join(traceback.format_exception(error))
        write_text(folder / ERROR_FILE, f"{type(error).__name__}: {lines[0]}\n\n{account}")


def _on_workers(settings: dict[str, Any]) -> None:
    """Raises: TrainingFailedError if the group failed for good."""
    config = RunConfig.from_yaml(Path(settings["folder"]) / "config.yaml")
    trainer = TorchTrainer(
        _trial_worker,
        train_loop_config=settings,
        scaling_config=ScalingConfig(
            num_workers=settings["workers"],
            use_gpu=settings["use_gpu"],
            resources_per_worker=None if settings["use_gpu"] else {"CPU": WORKER_CPUS},
        ),
        run_config=ray.train.RunConfig(
            name="ray",
            storage_path=settings["folder"],
            callbacks=[TuneReportCallback()],  # type: ignore[list-item]
            failure_config=FailureConfig(max_failures=config.max_failures),
        ),
    )
    try:
        trainer.fit()
    except TrainingFailedError:
        if not (Path(settings["folder"]) / ERROR_FILE).exists():
            raise
    finally:
        release_placement(Path(settings["folder"]))


def _trial_worker(settings: dict[str, Any]) -> None:
    folder = Path(settings["folder"])
    if (folder / ERROR_FILE).exists():
        return
    torch.set_num_threads(1)
    if torch.cuda.is_available():
        torch.cuda.set_device(ray.train.torch.get_device())
    world = DistributedContext.current()
    if world.is_main:
        note_placement(folder)
    try:
        _train(settings, world, ray.train.report, lambda: ray.train.get_preemption_info() is not None)
    except _Stopped:
        return
    except (ValueError, TrainingDiverged, NotWritten) as error:
        leave_error(folder, error)
        raise


def _train(
    settings: Mapping[str, Any],
    world: DistributedContext,
    report: Callable[[dict[str, Any]], None],
    save_now: Callable[[], bool] | None = None,
) -> None:
    """``fit`` in the trial's folder, with a report after each validation; then the benchmarks, if they are asked for.

    Args:
        report: given how much of the training is done, and the latest validation accuracy.
    """
    folder = Path(settings["folder"])
    config = RunConfig.from_yaml(folder / "config.yaml")
    words = _load_datasets(config.data, charset_of(config), description=settings.get("datasets"))
    num_steps = total_steps(config, len(words.train))
    best, percent_done = best_accuracy(folder) or 0.0, 0.0
    metrics_log = MetricsLog(folder / "metrics.jsonl") if world.is_main else None

    def record(step: int, metrics: Mapping[str, float]) -> None:
        assert metrics_log is not None
        metrics_log.record(step, metrics)

    def validated(step: int, metrics: Mapping[str, float]) -> None:
        nonlocal best, percent_done
        best, percent_done = max(best, metrics[ACCURACY]), 100 * step / num_steps if num_steps else 100.0
        if metrics_log is not None:
            metrics_log.record(step, {BEST_ACCURACY: best})
        report({PERCENT_DONE: percent_done, ACCURACY_NOW: metrics[ACCURACY]})
        # The first worker to look may look too early; they go on or stop together.
        asked = torch.tensor(float((folder / STOP_FILE).exists()), device=world.device)
        if percent_done < 100 and world.all_reduce(asked) > 0:
            raise _Stopped

    hooks: dict[str, Any] = {"on_checkpoint": validated, "save_now": save_now}
    fit(config, words, run_folder=folder, record=record, world=world, **hooks)
    if percent_done < 100:  # its last step had been trained before
        report({PERCENT_DONE: 100.0})
    if settings["benchmarks"]:
        readers = open_readers([folder], world.device, with_teacher=False)
        table = read_benchmarks(readers, words.benchmarks, batch_size=config.evaluation_batch_size, world=world)
        if world.is_main:
            write_evaluation(folder / "evaluation", table, words.benchmarks)
