"""The record of a sweep: an Optuna study in a journal file, and a folder for each of its trials.

What Tune remembers of a sweep is at most as fresh as its last snapshot, seconds old, and cannot be given more trials.
So a trial is recorded here before it begins, and again when it ends; a sweep that resumes is read from here.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import optuna
from optuna.pruners import BasePruner, NopPruner
from optuna.samplers import BaseSampler
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock
from optuna.trial import FrozenTrial, Trial, TrialState

from pipelines.run.metrics_log import read_records
from tune_spaces.space import Space

State = Literal["FINISHED", "PRUNED", "FAILED"]
_STATES: dict[TrialState, State] = {
    TrialState.COMPLETE: "FINISHED",
    TrialState.PRUNED: "PRUNED",
    TrialState.FAIL: "FAILED",
}
JOURNAL = "study.journal"
BASELINE = "the baseline"
ACCURACY = "validation/word_accuracy"
# Where a trial says what it failed of: a line for a person, then the whole account.
ERROR_FILE = "error.txt"
# The one error that lies in the point itself; a trial that failed of another may come through in another start.
OWN_FAULT = "TrainingDiverged"
# Intermediate values are kept by how much of a trial is done, in so many parts of its length.
PARTS = 1000


@dataclass(frozen=True)
class SweepTrial:
    """A trial and its folder, which is laid out as that of a training run.

    Attributes:
        number: that of the folder, from 0, in the order in which the trials began.
        params: dotted field → value.
        state: None while it has not ended.
        accuracy: the best of the validation split, in %; None if it was not read yet.
        error: of a failed trial, one line.
        is_baseline: whether this is the point that the sweep has to beat.
        is_running: now, under this driver.
    """

    number: int
    folder: Path
    params: Mapping[str, Any]
    state: State | None = None
    accuracy: float | None = None
    error: str = ""
    is_baseline: bool = False
    is_running: bool = False

    @property
    def title(self) -> str:
        """As tables and sentences name it."""
        return BASELINE if self.is_baseline else f"trial {self.number}"

    @property
    def outcome(self) -> str:
        """How it ended, in a line: "finished, 83.25 % (soft_logits 20)"."""
        point = ", ".join(f"{name.rpartition('.')[2]} {short(value)}" for name, value in self.params.items())
        read = "nothing read" if self.accuracy is None else f"{self.accuracy:.2f} %"
        return f"{str(self.state).lower()}, {read} ({point}){f': {self.error}' if self.error else ''}"


class SweepStudy:
    """The trials in ``folder``, a folder each; one writer at a time, the driver.

    Args:
        folder: is there when the first trial begins; its study.journal is the record.
        baseline: the point that the sweep has to beat.
        space: what the sampler draws from when the points that were enqueued are at an end; None: nothing more comes.
        sampler: made for the number of trials that are known already.
        pruner: says which trials are behind.
    """

    def __init__(
        self,
        folder: Path,
        *,
        baseline: Mapping[str, Any] | None = None,
        space: Space | None = None,
        sampler: Callable[[int], BaseSampler] | None = None,
        pruner: BasePruner | None = None,
    ) -> None:
        self.folder = folder
        self.baseline = None if baseline is None else as_json(baseline)
        self.space = space
        self._sampler, self._pruner = sampler, pruner or NopPruner()
        self._running: dict[int, FrozenTrial] = {}

    @cached_property
    def study(self) -> optuna.Study:
        """Optuna's own view, opened when it is first asked for."""
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self.folder.mkdir(parents=True, exist_ok=True)
        study = optuna.create_study(
            storage=self._storage,
            study_name=self.folder.name,
            direction="maximize",
            load_if_exists=True,
            pruner=self._pruner,
        )
        known = study.get_trials(deepcopy=False)
        if self._sampler is not None:
            study.sampler = self._sampler(len(known))
        self._left_open = [trial for trial in known if trial.state == TrialState.RUNNING]
        return study

    @property
    def trials(self) -> list[SweepTrial]:
        """All that were begun, by number; one that was tried again as it stands now."""
        known = self.study.get_trials(deepcopy=False)
        begun = {trial.user_attrs["folder"]: trial for trial in known if "folder" in trial.user_attrs}
        return [self._seen(begun[name]) for name in sorted(begun)]

    @property
    def ended(self) -> list[SweepTrial]:
        return [trial for trial in self.trials if trial.state is not None]

    def enqueue(self, points: Sequence[Mapping[str, Any]]) -> None:
        """To be tried before the sampler is asked, in order; what is known already is left out."""
        known = [trial.user_attrs.get("params") for trial in self.study.get_trials(deepcopy=False)]
        for point in map(as_json, points):
            if point not in known:
                known.append(point)
                self._enqueue(point)

    def retry_failed(self) -> None:
        """Enqueues what failed of something else than its own point once more, in the same folder."""
        for trial in self.ended:
            if trial.state == "FAILED" and not trial.error.startswith(OWN_FAULT):
                self._enqueue(trial.params, folder=trial.folder.name)

    def begin(self) -> SweepTrial | None:
        """The next trial: one that an earlier driver left open, one that waits, or a new one; None: there is none."""
        asked = self._take_up_open() or self._ask()
        if asked is None:
            return None
        if "folder" not in asked.user_attrs:
            number = max((int(place.name) for place in self.folder.glob("[0-9]*")), default=-1) + 1
            self._storage.set_trial_user_attr(asked._trial_id, "folder", f"{number:04d}")
        frozen = self._storage.get_trial(asked._trial_id)
        folder = self.folder / frozen.user_attrs["folder"]
        folder.mkdir(exist_ok=True)
        (folder / ERROR_FILE).unlink(missing_ok=True)
        self._running[int(folder.name)] = frozen
        return self._seen(frozen)

    def report(self, number: int, percent: float, accuracy: float) -> bool:
        """What a running trial read of the validation split, in %. Returns whether it is behind and is to stop."""
        trial_id = self._running[number]._trial_id
        self._storage.set_trial_intermediate_value(trial_id, int(PARTS * percent / 100), accuracy)
        return self.study.pruner.prune(self.study, self._storage.get_trial(trial_id))

    def end(self, number: int, state: State, error: str = "") -> SweepTrial:
        frozen = self._running.pop(number)
        if error:
            self._storage.set_trial_user_attr(frozen._trial_id, "error", error)
        # What was read under a driver that was killed may not have come to the study, but it is in the trial's folder.
        accuracy = best_accuracy(self.folder / frozen.user_attrs["folder"])
        if accuracy is not None:
            self._storage.set_trial_user_attr(frozen._trial_id, "accuracy", accuracy)
        if state == "FINISHED":
            self.study.tell(frozen.number, accuracy)
        else:
            # A point that diverges is a bad point, as one that was stopped is; of others that failed nothing is known.
            is_bad = state == "PRUNED" or error.startswith(OWN_FAULT)
            self.study.tell(frozen.number, state=TrialState.PRUNED if is_bad else TrialState.FAIL)
        return self._seen(self._storage.get_trial(frozen._trial_id))

    @cached_property
    def _storage(self) -> JournalStorage:
        journal = self.folder / JOURNAL
        if journal.exists():  # a driver that was killed while it wrote may have left a part of a line
            os.truncate(journal, journal.read_bytes().rfind(b"\n") + 1)
        return JournalStorage(JournalFileBackend(str(journal), JournalFileOpenLock(str(journal))))

    def _enqueue(self, point: Mapping[str, Any], **attributes: str) -> None:
        # Optuna learns nothing from a point that it could not have drawn, but the point is tried.
        known = point if self.space is not None and self.space.holds(point) else {}
        self.study.enqueue_trial(dict(known), user_attrs={"params": point, **attributes})

    def _take_up_open(self) -> FrozenTrial | None:
        while self.study and self._left_open:
            left = self._left_open.pop(0)
            if "params" in left.user_attrs:
                return left
            self.study.tell(left.number, state=TrialState.FAIL)  # its driver was killed before it had a whole point
        return None

    def _ask(self) -> Trial | None:
        waiting = self.study.get_trials(deepcopy=False, states=(TrialState.WAITING,))
        point = waiting[0].user_attrs["params"] if waiting else None
        if point is None and self.space is None:
            return None
        is_drawn = self.space is not None and (point is None or self.space.holds(point))
        asked = self.study.ask(dict(self.space.distributions) if self.space and is_drawn else None)
        if point is None:
            asked.set_user_attr("params", as_json(asked.params))
        return asked

    def _seen(self, frozen: FrozenTrial) -> SweepTrial:
        attributes = frozen.user_attrs
        number = int(attributes["folder"])
        error = attributes.get("error", "")
        return SweepTrial(
            number,
            self.folder / attributes["folder"],
            attributes["params"],
            "FAILED" if error else _STATES.get(frozen.state),
            attributes.get("accuracy", max(frozen.intermediate_values.values(), default=None)),
            error,
            attributes["params"] == self.baseline,
            number in self._running,
        )


def best_accuracy(folder: Path) -> float | None:
    """The best of the validation split in the folder of a run or trial, in %; None if it was not read yet."""
    records = read_records(folder / "metrics.jsonl")[0]
    return max((record.metrics[ACCURACY] for record in records if ACCURACY in record.metrics), default=None)


def best_first(trials: Sequence[SweepTrial]) -> list[SweepTrial]:
    """Trials that ran to their end; of equals, the earlier first."""
    done = [trial for trial in trials if trial.state == "FINISHED"]
    return sorted(done, key=lambda trial: (-(trial.accuracy or 0.0), trial.number))


def short(value: Any) -> str:
    """A parameter's value as tables and lines have it."""
    return f"{value:.4g}" if isinstance(value, float) else str(value) or "(empty)"


def as_json(params: Mapping[str, Any]) -> dict[str, Any]:
    """As JSON gives it back, so that points can be compared."""
    return json.loads(json.dumps(dict(params)))
