"""A sweep as MLflow shows it: one run with a child for every trial.

The trials' folders say everything; this only hands on what is new in them. So nothing is sent twice, and what could
not be sent is sent by the same command later.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from kdltr_core.config import RunConfig
from pipelines.run.description import Description
from pipelines.run.progress import polled, say
from pipelines.run.tracking import SECONDS_BETWEEN_TRIES, Status, Tracker
from pipelines.sweep.study import ERROR_FILE, SweepStudy, SweepTrial


class SweepTracker:
    """The sweep's run and the runs of its trials.

    Args:
        folder: of the sweep.
        config: names the server and the experiment, and what all trials share.
        studies: whose trials are shown, tagged and named by what one of them is called.
        say: receives a sentence when the server goes away and when it is back.
    """

    def __init__(
        self, folder: Path, config: RunConfig, studies: Mapping[str, SweepStudy], say: Callable[[str], None] = say
    ) -> None:
        self._folder, self._config, self._studies, self._say = folder, config, studies, say
        self._next_try = 0.0
        self.parent = Tracker(folder, config.tracking_uri, config.experiment, say)
        self._children: dict[Path, Tracker] = {}
        self._begun: set[Path] = set()

    def begin(self, description: Description) -> None:
        self._description = description
        self.parent.begin(description)

    @contextmanager
    def following(self) -> Iterator[None]:
        """Sends what is new from a thread of its own."""
        for study in self._studies.values():
            _ = study.study  # opened before two threads use it
        with polled(self.poll):
            yield

    def poll(self) -> None:
        """Sends what is new; while the server is away, tries at times."""
        self.parent.send()
        if not self.parent.run_id or time.monotonic() < self._next_try:
            return
        if not self._send_trials(is_over=False):
            self._next_try = time.monotonic() + SECONDS_BETWEEN_TRIES

    def end(self, status: Status, artifacts: Sequence[Path] = (), tags: Mapping[str, str] | None = None) -> bool:
        """Sends the rest and every state; trials that have not ended were killed. Returns whether all is there."""
        self.parent.send()
        if self.parent.run_id and not self._send_trials(is_over=True):
            # The sweep's own run stays open, so that the same command knows that something is owed.
            self._say(f"MLflow lacks a part of this sweep; it is kept in {self._folder} and sent by the same command")
            return False
        return self.parent.end(status, artifacts, tags)

    def _send_trials(self, is_over: bool) -> bool:
        trials = ((role, trial) for role, study in self._studies.items() for trial in study.trials)
        return all(self._send(role, trial, is_over) for role, trial in trials)

    def _send(self, role: str, trial: SweepTrial, is_over: bool) -> bool:
        """Whether MLflow has all that there is of a trial, also where there is nothing to be had."""
        if trial.folder not in self._children:
            config = self._config
            self._children[trial.folder] = Tracker(trial.folder, config.tracking_uri, config.experiment, lambda s: None)
        tracker = self._children[trial.folder]
        # PRUNED is a tag on FINISHED: the trial did what it was meant to do.
        ended: dict[str | None, Status] = {"FAILED": "FAILED", None: "KILLED"}
        status = ended.get(trial.state, "FINISHED")
        if trial.folder not in self._begun:
            if trial.state is None and not is_over:
                is_idle = not trial.is_running
            else:
                is_idle = tracker.ended == status or not (trial.state or tracker.run_id)
            if is_idle:
                return True
            self._begin(role, trial, tracker)
        if trial.state is None and not is_over:
            tracker.send()
            return not tracker.is_away
        artifacts = [trial.folder / name for name in ("config.yaml", "evaluation", ERROR_FILE)]
        tags = {"sweep.outcome": (trial.state or "killed").lower(), "sweep.error": trial.error[:500]}
        done = tracker.end(status, artifacts, tags)
        if done:
            self._begun.discard(trial.folder)
        return done

    def _begin(self, role: str, trial: SweepTrial, tracker: Tracker) -> None:
        self._begun.add(trial.folder)
        what = ", the baseline" if trial.is_baseline else ""
        tags = {
            "mlflow.parentRunId": self.parent.run_id,
            "sweep.role": role,
            "sweep.trial": str(trial.number),
            "mlflow.note.content": f"{role} {trial.number} of the sweep {self._config.name}{what}",
        }
        shared = {n: value for n, value in self._description.parameters.items() if not n.startswith("sweep.")}
        description = replace(
            self._description,
            name=f"{self._config.name} {role} {trial.number}",
            parameters=shared | dict(trial.params),
            tags=dict(self._description.tags) | tags,
        )
        tracker.begin(description)
