"""Ray Tune runs the trials that a study asks for, and stops those that the study says are behind."""

from __future__ import annotations

import logging
import math
import os
import shutil
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ray import tune
from ray.tune.progress_reporter import TrialProgressCallback
from ray.tune.search import Searcher

from kdltr_core.config import RunConfig
from kdltr_core.files import write_text
from pipelines.ray_train.cluster import MOST_FAILURES, Cluster
from pipelines.run.command_line import RunStopped
from pipelines.run.progress import say
from pipelines.sweep.options import TrialOptions
from pipelines.sweep.study import ERROR_FILE, OWN_FAULT, SweepStudy, SweepTrial
from pipelines.sweep.trial import ACCURACY_NOW, PERCENT_DONE, leave_error, run_trial

# So often in a row it is no longer the points'.
MOST_FAILED = 3
TUNE_FOLDER = "ray"


class StudySearch(Searcher):
    """A study's trials in Tune's words.

    Args:
        config: of every trial, but for its point.
        settings: of every trial, for ``run_trial``.
        label: what one of them is called.
        num_trials: that are to have ended.
    """

    def __init__(
        self, study: SweepStudy, config: RunConfig, settings: Mapping[str, Any], label: str, num_trials: int
    ) -> None:
        super().__init__(metric=ACCURACY_NOW, mode="max")
        self.study, self.config, self.settings, self.label, self.num_trials = study, config, settings, label, num_trials
        self.stopped_because = ""
        self.running: dict[str, SweepTrial] = {}
        self._num_failed = 0

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:  # type: ignore[override]
        trial = None if self.stopped_because else self.study.begin()
        if trial is None:
            return Searcher.FINISHED
        self.running[trial_id] = trial
        try:
            config = self.config.override({**trial.params, "name": f"{self.config.name}-{trial.number:04d}"})
            write_text(trial.folder / "config.yaml", config.to_yaml())
        except ValueError as error:
            leave_error(trial.folder, error)
        return {"folder": str(trial.folder), **self.settings}

    def is_behind(self, trial_id: str, result: Mapping[str, Any]) -> bool:
        """Hands a result to the study. Returns whether its pruner stops the trial."""
        if trial_id not in self.running or ACCURACY_NOW not in result:
            return False
        percent = result[PERCENT_DONE]
        return self.study.report(self.running[trial_id].number, percent, result[ACCURACY_NOW]) and percent < 100

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """Nothing: ``is_behind`` is told as well, and can stop the trial."""

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        trial = self.running.pop(trial_id)
        note = trial.folder / ERROR_FILE
        if note.exists():
            trial = self.study.end(trial.number, "FAILED", note.read_text(encoding="utf-8").partition("\n")[0])
        elif error:
            trial = self.study.end(trial.number, "FAILED", "the process of the trial was lost, and lost again")
        else:
            is_whole = (result or {}).get(PERCENT_DONE, 0) >= 100
            trial = self.study.end(trial.number, "FINISHED" if is_whole else "PRUNED")
            shutil.rmtree(trial.folder / "checkpoints", ignore_errors=True)
        say(f"{len(self.study.ended)} of {self.num_trials}: {self.label} {trial.number} {trial.outcome}")
        self._count(trial)

    def save_to_dir(self, checkpoint_dir: str, session_str: str = "default") -> None:
        """Nothing: the study has it."""

    def __getstate__(self) -> dict[str, Any]:
        return {}  # Tune keeps a copy that nobody reads back

    def _count(self, trial: SweepTrial) -> None:
        """Trials in a row that failed; a point whose training diverged is a bad one, and shows that the rest works."""
        has_failed = trial.error and not trial.error.startswith(OWN_FAULT)
        self._num_failed = self._num_failed + 1 if has_failed else 0
        if self._num_failed >= MOST_FAILED:
            self.stopped_because = (
                f"{MOST_FAILED} trials in a row failed, and no more are begun; the last of {trial.error} (the whole "
                f"account: {trial.folder / ERROR_FILE})"
            )


class _Quiet(TrialProgressCallback):
    """In the place of Tune's own, which prints a line for a trial that ends even where it was asked to be quiet."""

    def log_result(self, trial: Any, result: dict[str, Any], error: bool = False) -> None: ...

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None: ...


def machines_for(options: TrialOptions, offers_gpus: bool) -> tuple[int, int]:
    """How many GPUs, or CPUs, the trials that are to run at a time take, and how many one trial does."""
    units = (options.gpus_per_trial or 1.0) if offers_gpus else options.cpus_per_trial
    return math.ceil(max(options.trials_at_a_time, 1) * units - 1e-9), math.ceil(units)


def resources_for(options: TrialOptions, cluster: Cluster) -> tuple[dict[str, float], int]:
    """What a trial takes, in Ray's words, and how many run at a time. Raises: ValueError if not even one fits."""
    cpus, gpus = options.cpus_per_trial, options.gpus_per_trial or (1.0 if cluster.offers_gpus else 0.0)
    num = cluster.num_cpus // cpus
    if gpus:
        num = min(num, cluster.num_gpus * int(1 / gpus + 1e-9))
    if num < 1:
        raise ValueError(
            f"no trial fits: one takes --cpus-per-trial {cpus}{f' and --gpus-per-trial {gpus:g}' if gpus else ''}, and "
            f"there are {cluster.num_cpus} CPUs and {cluster.num_gpus} GPUs; ask for less, or join more nodes to the "
            "cluster"
        )
    return {"cpu": cpus, **({"gpu": gpus} if gpus else {})}, min(num, options.trials_at_a_time or num)


def run_trials(search: StudySearch, resources: Mapping[str, float], num_at_a_time: int, folder: Path) -> None:
    """Trials until as many as are asked for have ended.

    Args:
        resources, num_at_a_time: as ``resources_for`` gives them.

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
    num_left = search.num_trials - len(search.study.ended)
    if num_left <= 0:
        return
    tuner = tune.Tuner(
        tune.with_resources(run_trial, dict(resources)),
        tune_config=tune.TuneConfig(
            search_alg=search,
            num_samples=num_left,
            max_concurrent_trials=num_at_a_time,
            reuse_actors=False,  # what a trial took of the memory, and whatever it broke, goes with its process
            trial_dirname_creator=lambda trial: trial.trial_id,
        ),
        run_config=tune.RunConfig(
            name=TUNE_FOLDER,
            storage_path=str(folder),
            stop=search.is_behind,
            verbose=0,
            callbacks=[_Quiet()],
            failure_config=tune.FailureConfig(max_failures=MOST_FAILURES),
        ),
    )
    try:
        tuner.fit()
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)  # Tune put its own in this place
        shutil.rmtree(folder / TUNE_FOLDER, ignore_errors=True)  # the study has what is worth keeping
    if search.stopped_because:
        raise RunStopped(search.stopped_because)
    if len(search.study.ended) < search.num_trials:
        raise KeyboardInterrupt
