"""The trials of a sweep as folders: which points were tried, how far each came, and how it ended.

What Tune remembers of a sweep is at most as fresh as its last snapshot, seconds old, and cannot be given more trials.
So a trial is written down here before it begins, and again when it ends; a sweep that goes on is read from here.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from kdltr_core.files import write_text
from pipelines.run.metrics_log import read_records
from pipelines.sweep.sweep import State, Trial

# Where a trial says what it failed of: a line for a person, then the whole account.
ERROR_FILE = "error.txt"
ACCURACY = "validation/word_accuracy"
# The one error that lies in the point itself; a trial that failed of another may come through in another start.
OWN_FAULT = "TrainingDiverged"


@dataclass(frozen=True)
class Entry:
    """A trial and its folder, which is laid out as that of a training run.

    Attributes:
        number: from 0, in the order in which the trials began.
        params: dotted field → value.
        state: None while it has not ended.
        error: of a failed trial, one line.
        seconds: it took, the last time that it was begun; None before.
        is_running: now, under this driver.
    """

    number: int
    folder: Path
    params: Mapping[str, Any]
    is_published: bool = False
    state: State | None = None
    error: str = ""
    seconds: float | None = None
    is_running: bool = False

    @property
    def curve(self) -> tuple[tuple[int, float], ...]:
        """(step, validation accuracy in %), in order."""
        return curve_of(self.folder)

    @property
    def accuracy(self) -> float | None:
        """The best of the validation split, in %; None if it was not read yet."""
        return max((value for _, value in self.curve), default=None)

    def to_trial(self) -> Trial:
        """As report and pictures have it."""
        assert self.state is not None
        seconds = math.nan if self.seconds is None else self.seconds
        how = (self.state, self.curve, self.error, seconds, self.is_published)
        return Trial(self.number, self.params, self.accuracy, *how)


class Ledger:
    """The trials in ``folder``, one folder each; one writer at a time, the driver.

    Args:
        folder: made when the first trial begins.
        published: the point that the sweep has to beat.
        on_change: called with this ledger whenever a trial begins or ends.
    """

    def __init__(
        self, folder: Path, published: Mapping[str, Any], on_change: Callable[[Ledger], None] = lambda ledger: None
    ) -> None:
        self.folder = folder
        self.published = plain(published)
        self.on_change = on_change
        self._began: dict[int, float] = {}
        self.entries: list[Entry] = []
        for place in sorted(folder.glob("[0-9]*/trial.json")):
            kept = json.loads(place.read_text(encoding="utf-8"))
            self.entries.append(Entry(number=int(place.parent.name), folder=place.parent, **kept))

    @property
    def ended(self) -> list[Entry]:
        return [entry for entry in self.entries if entry.state is not None]

    @property
    def open(self) -> list[Entry]:
        """Begun under an earlier driver or not yet, and not ended."""
        return [entry for entry in self.entries if entry.state is None and not entry.is_running]

    def reopen_failed(self) -> None:
        """Gives trials that failed of something else than their own point another try."""
        for entry in self.ended:
            if entry.state == "FAILED" and not entry.error.startswith(OWN_FAULT):
                self._put(replace(entry, state=None, error="", seconds=None))

    def begin(self, params: Mapping[str, Any]) -> Entry:
        """The trial of this point that was not brought to an end, or a new one."""
        params = plain(params)
        fresh = Entry(len(self.entries), self.folder / f"{len(self.entries):04d}", params, params == self.published)
        entry = next((entry for entry in self.open if entry.params == params), fresh)
        entry.folder.mkdir(parents=True, exist_ok=True)
        (entry.folder / ERROR_FILE).unlink(missing_ok=True)
        self._began[entry.number] = time.monotonic()
        entry = replace(entry, is_running=True)
        self._put(entry)
        self.on_change(self)
        return entry

    def end(self, number: int, state: State, error: str = "") -> Entry:
        seconds = time.monotonic() - self._began[number]
        entry = replace(self.entries[number], state=state, error=error, seconds=seconds, is_running=False)
        self._put(entry)
        self.on_change(self)
        return entry

    def _put(self, entry: Entry) -> None:
        kept = {"params": entry.params, "is_published": entry.is_published, "state": entry.state}
        kept |= {"error": entry.error, "seconds": entry.seconds}
        write_text(entry.folder / "trial.json", json.dumps(kept, indent=1))
        self.entries[entry.number : entry.number + 1] = [entry]


def curve_of(folder: Path) -> tuple[tuple[int, float], ...]:
    """(step, validation accuracy in %), as recorded in the folder of a run or trial."""
    records = read_records(folder / "metrics.jsonl")[0]
    return tuple((record.step, record.metrics[ACCURACY]) for record in records if ACCURACY in record.metrics)


def plain(params: Mapping[str, Any]) -> dict[str, Any]:
    """As JSON gives it back, so that points can be compared."""
    return json.loads(json.dumps(dict(params)))
