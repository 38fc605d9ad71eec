"""What a trial runs: the core's ``fit``, in a process of Ray Tune that it has for itself."""

from __future__ import annotations

import traceback
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from ray import tune

from kdltr_core.config import RunConfig
from kdltr_core.data.dataset import load_datasets
from kdltr_core.distributed import DistributedContext
from kdltr_core.evaluation.benchmarks import open_readers, read_benchmarks
from kdltr_core.files import locked, write_text
from kdltr_core.recognizers.registry import charset_of
from kdltr_core.train.engine import fit, total_steps
from pipelines.report.summary import headline_metrics, write_evaluation
from pipelines.run.checks import VALIDATED_ON_READINGS
from pipelines.run.metrics_log import MetricsLog
from pipelines.sweep.study import ACCURACY, ERROR_FILE, best_accuracy

# What a trial reports after each validation, both in %.
ACCURACY_NOW, PERCENT_DONE = "word_accuracy", "percent_done"
# The best student so far is what a trial is judged by.
BEST_ACCURACY = "validation/best_word_accuracy"
SECONDS_FOR_OTHERS = 120.0


def run_trial(settings: dict[str, Any]) -> None:
    """One trial, from its newest checkpoint on; Tune may stop it whenever it reports.

    Args:
        settings: "folder" (absolute, the same on all nodes; its config.yaml is what is trained), "threads",
            "benchmarks": whether they are read at the end, and "datasets": the description that the driver has of them.
    """
    folder = Path(settings["folder"])
    # Tune tries again what was lost with its process; an error would come again.
    if (folder / ERROR_FILE).exists():
        return
    try:
        # Of a driver that was killed, trials may live on for some seconds.
        with locked(folder / ".lock", SECONDS_FOR_OTHERS):
            torch.set_num_threads(settings["threads"])
            _train(folder, settings)
    except Exception as error:
        leave_error(folder, error)


def leave_error(folder: Path, error: Exception) -> None:
    """For the driver: the kind of error and the first line of its message, then where it came from."""
    lines = str(error).strip().splitlines() or [""]
    account = "".join(traceback.format_exception(error))
    write_text(folder / ERROR_FILE, f"{type(error).__name__}: {lines[0]}\n\n{account}")


def _train(folder: Path, settings: Mapping[str, Any]) -> None:
    """``fit``, with a report after each validation; then the benchmarks, if they are asked for."""
    config, world = RunConfig.from_yaml(folder / "config.yaml"), DistributedContext.current()
    words = load_datasets(config.data, charset_of(config), description=settings.get("datasets"))
    num_steps = total_steps(config, len(words.train))
    best, percent_done = best_accuracy(folder) or 0.0, 0.0
    metrics_log = MetricsLog(folder / "metrics.jsonl")

    def validated(step: int, metrics: Mapping[str, float]) -> None:
        nonlocal best, percent_done
        best, percent_done = max(best, metrics[ACCURACY]), 100 * step / num_steps if num_steps else 100.0
        metrics_log.record(step, {BEST_ACCURACY: best})
        tune.report({PERCENT_DONE: percent_done, ACCURACY_NOW: metrics[ACCURACY]})

    fit(config, words, run_folder=folder, record=metrics_log.record, world=world, on_checkpoint=validated)
    if percent_done < 100:  # its last step had been trained before
        tune.report({PERCENT_DONE: 100.0})
    if settings["benchmarks"]:
        readers = open_readers([folder], world.device, with_teacher=False)
        table = read_benchmarks(readers, words.benchmarks, world=world)
        if words.validates_on_readings:
            table = replace(table, note=VALIDATED_ON_READINGS)
        write_evaluation(folder / "evaluation", table, words.benchmarks)
        metrics_log.record(num_steps, headline_metrics(table, config.recognizer.trained))
