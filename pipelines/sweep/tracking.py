"""A sweep as MLflow shows it: one run, and under it a run for every trial.

The trials' folders say everything; this only hands on what is new in them. So nothing is sent twice, and what could
not be sent is sent by the same command later.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import TracebackType

from kdltr_core.config import RunConfig
from pipelines.run.tracking import SECONDS_BETWEEN_TRIES, Description, Status, Tracker
from pipelines.sweep.study import ERROR_FILE, Entry, Ledger

SECONDS_BETWEEN_LOOKS = 1.0


class SweepTracker:
    """The sweep's run and the runs of its trials; sends from a thread of its own while it is entered.

    Args:
        folder: of the sweep.
        config: names the server and the experiment, and what all trials share.
        say: receives a sentence when the server goes away and when it is back.
    """

    def __init__(self, folder: Path, config: RunConfig, say: Callable[[str], None]) -> None:
        self._folder, self._say = folder, say
        self._next_try = 0.0
        self.parent = Tracker(folder, config.tracking_uri, config.experiment, say)
        self._config = config
        self._ledgers: dict[str, Ledger] = {}
        self._children: dict[Path, _Child] = {}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="track-trials", daemon=True)

    def begin(self, description: Description) -> None:
        self._description = description
        self.parent.begin(description)

    def follow(self, role: str, ledger: Ledger) -> None:
        """Shows the trials of this ledger too, tagged and named by their role."""
        self._ledgers[role] = ledger

    def __enter__(self) -> SweepTracker:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()

    def look(self) -> None:
        """Sends what is new; while the server is away, tries at times."""
        self.parent.send()
        if not self.parent.run_id or time.monotonic() < self._next_try:
            return
        for role, ledger in list(self._ledgers.items()):
            for entry in list(ledger.entries):
                if not self._child(role, entry).send(entry):
                    self._next_try = time.monotonic() + SECONDS_BETWEEN_TRIES
                    return

    def end(self, status: Status, artifacts: Sequence[Path] = (), tags: Mapping[str, str] | None = None) -> bool:
        """Sends the rest and every state; trials that have not ended were killed. Returns whether all is there."""
        self.parent.send()
        entries = [(role, entry) for role, ledger in self._ledgers.items() for entry in ledger.entries]
        if self.parent.run_id and not all(self._child(role, entry).end(entry) for role, entry in entries):
            # The sweep's own run stays open, so that the same command knows that something is owed.
            self._say(f"MLflow lacks a part of this sweep; it is kept in {self._folder} and the same command sends it")
            return False
        return self.parent.end(status, artifacts, tags)

    def _watch(self) -> None:
        while not self._stop.wait(SECONDS_BETWEEN_LOOKS):
            self.look()

    def _child(self, role: str, entry: Entry) -> _Child:
        child = self._children.get(entry.folder)
        if child is None:
            tracker = Tracker(entry.folder, self._config.tracking_uri, self._config.experiment, lambda sentence: None)
            child = self._children[entry.folder] = _Child(tracker, self._describe(role, entry))
        return child

    def _describe(self, role: str, entry: Entry) -> Description:
        what = ", the config's own point" if entry.is_published else ""
        tags = {
            "mlflow.parentRunId": self.parent.run_id,
            "sweep.role": role,
            "sweep.trial": str(entry.number),
            "mlflow.note.content": f"{role} {entry.number} of the sweep {self._config.name}{what}",
        }
        shared = {n: value for n, value in self._description.parameters.items() if not n.startswith("sweep.")}
        return replace(
            self._description,
            name=f"{self._config.name} {role} {entry.number}",
            parameters=shared | dict(entry.params),
            tags=dict(self._description.tags) | tags,
        )


class _Child:
    """The run of one trial."""

    def __init__(self, tracker: Tracker, description: Description) -> None:
        self._tracker, self._description = tracker, description
        self._has_begun = False

    def send(self, entry: Entry) -> bool:
        """Whether the server took what there is."""
        if entry.state is not None:
            return self.end(entry)
        if entry.is_running:
            self._begin()
            self._tracker.send()
        return not self._tracker.is_away

    def end(self, entry: Entry) -> bool:
        """Whether MLflow has all of it, also where there is nothing to be had."""
        status = _status(entry)
        if not self._has_begun and (self._tracker.ended == status or not (self._tracker.run_id or entry.state)):
            return True
        self._begin()
        outcome = (entry.state or "killed").lower()
        artifacts = [entry.folder / name for name in ("config.yaml", "trial.json", "evaluation", ERROR_FILE)]
        tags = {"sweep.outcome": outcome, "sweep.error": entry.error[:500]}
        done = self._tracker.end(status, artifacts, tags)
        self._has_begun = not done and self._has_begun
        return done

    def _begin(self) -> None:
        if not self._has_begun:
            self._tracker.begin(self._description)
            self._has_begun = True


def _status(entry: Entry) -> Status:
    """PRUNED is a tag on FINISHED: the trial did what it was meant to do."""
    if entry.state is None:
        return "KILLED"
    return "FAILED" if entry.state == "FAILED" else "FINISHED"
