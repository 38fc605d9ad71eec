"""Ray Tune: trials as a searcher asks for them, some of them stopped early."""

from __future__ import annotations

import logging
import os
import shutil
import signal
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ray import tune
from ray.tune.progress_reporter import TrialProgressCallback
from ray.tune.schedulers import ASHAScheduler, TrialScheduler

from kdltr_core.config import RunConfig
from kdltr_core.train.engine import total_steps
from pipelines.run.command_line import RunStopped
from pipelines.sweep.resources import Room
from pipelines.sweep.search import LedgerSearch
from pipelines.sweep.study import Ledger
from pipelines.sweep.trial import NOW, PERCENT_DONE, STOP_FILE, run_trial

# A trial is compared with the others after a quarter of its length and after a half; the lower half stops.
GRACE_PERCENT, REDUCTION = 25, 2
TUNE_FOLDER = "ray"


class _AskingASHA(ASHAScheduler):
    """ASHA for trials that have workers of their own: asks them to stop.

    Tune would kill the trial, and Ray then holds on to what the workers took, so that the next one waits for ever.
    """

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        decision = super().on_trial_result(tune_controller, trial, result)
        if decision != TrialScheduler.STOP:
            return decision
        (Path(trial.config["folder"]) / STOP_FILE).touch()
        return TrialScheduler.CONTINUE


def asha(ledger: Ledger, config: RunConfig, num_pairs: int, room: Room) -> TrialScheduler:
    """ASHA on the latest accuracy, as the best may be that of the start; it knows what earlier trials read when."""
    scheduler = (_AskingASHA if room.settings["workers"] else ASHAScheduler)(
        PERCENT_DONE,
        metric=NOW,
        mode="max",
        max_t=100,
        grace_period=GRACE_PERCENT,
        reduction_factor=REDUCTION,
        stop_last_trials=False,
    )
    nobody: Any = None  # ASHA does not ask its controller
    for entry in ledger.ended:
        if not entry.curve:
            continue
        told: Any = _Earlier(f"earlier-{entry.number}", {"folder": str(entry.folder)})
        scheduler.on_trial_add(nobody, told)
        num_steps = total_steps(config.override(dict(entry.params)), num_pairs)
        for step, accuracy in entry.curve:
            scheduler.on_trial_result(nobody, told, {PERCENT_DONE: 100 * step / max(num_steps, 1), NOW: accuracy})
    return scheduler


@dataclass(frozen=True)
class _Earlier:
    """As much of a trial as a scheduler asks for."""

    trial_id: str
    config: dict[str, str]


class _Quiet(TrialProgressCallback):
    """In the place of Tune's own, which prints a line for a trial that ends even where it was asked to be quiet."""

    def log_result(self, trial: Any, result: dict[str, Any], error: bool = False) -> None: ...

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None: ...


def run_trials(
    search: LedgerSearch, num_trials: int, room: Room, folder: Path, scheduler: TrialScheduler | None = None
) -> None:
    """Trials until the ledger has ``num_trials`` that have ended.

    Raises: RunStopped if one after the other fails of the same error; KeyboardInterrupt.
    """
    for name, value in {
        "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
        "TUNE_DISABLE_STRICT_METRIC_CHECKING": "1",  # a trial may fail before it has one
        "RAY_AIR_NEW_OUTPUT": "0",  # the new one prints a heading even where it was asked to be quiet
    }.items():
        os.environ.setdefault(name, value)
    for name in ("ray.tune", "ray.train"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    num_left = num_trials - len(search.ledger.ended)
    if num_left <= 0:
        return
    tuner = tune.Tuner(
        tune.with_resources(run_trial, dict(room.resources)),
        tune_config=tune.TuneConfig(
            search_alg=search,
            scheduler=scheduler,
            num_samples=num_left,
            max_concurrent_trials=room.num_at_a_time,
            reuse_actors=not room.settings["workers"],
            trial_dirname_creator=lambda trial: trial.trial_id,
        ),
        run_config=tune.RunConfig(
            name=TUNE_FOLDER,
            storage_path=str(folder),
            verbose=0,
            callbacks=[_Quiet()],
            failure_config=tune.FailureConfig(max_failures=search.config.max_failures),
        ),
    )
    try:
        tuner.fit()
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)  # Tune put its own in this place
        shutil.rmtree(folder / TUNE_FOLDER, ignore_errors=True)  # the ledger has what is worth keeping
    if search.stopped_because:
        raise RunStopped(search.stopped_because)
    if len(search.ledger.ended) < num_trials:
        raise KeyboardInterrupt
