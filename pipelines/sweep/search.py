"""Which point is tried next, in Ray Tune's words: the ledger's open ones, a list's, then Optuna's."""

from __future__ import annotations

import re
import shutil
from collections.abc import Mapping, Sequence
from typing import Any

import optuna
from ray.tune.search import Searcher
from ray.tune.search.optuna import OptunaSearch

from kdltr_core.config import RunConfig
from pipelines.sweep.options import SweepOptions
from pipelines.sweep.study import ERROR_FILE, OWN_FAULT, Entry, Ledger
from pipelines.sweep.trial import BEST, PERCENT_DONE, leave_error
from pipelines.sweep.trial_place import release_place
from tune_spaces.space import Space

# So often in a row the same error is no longer the point's; a wide space may well have a few points in a row that
# diverge.
MOST_EQUAL_ERRORS, MOST_DIVERGED = 3, 10


class LedgerSearch(Searcher):
    """Takes points from a list and then from Optuna, and writes every trial into the ledger before it begins.

    What an earlier driver's trials came to is told to Optuna first; those that it left open come next.

    Args:
        ledger: the trials so far.
        config: of every trial, but for its point.
        points: to try, in order, unless the ledger has them.
        settings: of every trial, for ``run_trial``.
        space: what Optuna draws from when the points are at an end; None for the points alone.
        sampler: Optuna's.
    """

    def __init__(
        self,
        ledger: Ledger,
        config: RunConfig,
        points: Sequence[Mapping[str, Any]],
        settings: Mapping[str, Any],
        space: Space | None = None,
        sampler: optuna.samplers.BaseSampler | None = None,
    ) -> None:
        super().__init__(metric=BEST, mode="max")
        self.ledger, self.config, self.settings = ledger, config, settings
        self.stopped_because = ""
        self._errors_in_row: list[str] = []
        tried = [entry.params for entry in ledger.ended]
        # Several of one point may be open; each is another trial.
        waiting = [entry.params for entry in ledger.open]
        waiting += [point for point in points if point not in tried and point not in waiting]
        self._numbers: dict[str, int] = {}
        self._optuna: OptunaSearch | None = None
        self._queue = list(waiting)
        self._known_to_optuna: set[str] = set()
        if space is not None:
            # Optuna takes no point from outside its ranges: the published one may lie there.
            self._queue = [point for point in waiting if not space.holds(point)]
            self._optuna = OptunaSearch(
                OptunaSearch.convert_search_space(dict(space.domains)),
                metric=BEST,
                mode="max",
                sampler=sampler,
                points_to_evaluate=[dict(point) for point in waiting if space.holds(point)],
            )
            for entry in ledger.ended:
                if space.holds(entry.params):
                    self._tell_earlier(entry)

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:  # type: ignore[override]
        if self.stopped_because:
            return Searcher.FINISHED
        point: Mapping[str, Any] | None
        if self._queue:
            point = self._queue.pop(0)
        elif self._optuna is not None:
            point = self._optuna.suggest(trial_id)
            self._known_to_optuna.add(trial_id)
        else:
            return Searcher.FINISHED
        if point is None:
            return None
        entry = self.ledger.begin(point)
        self._numbers[trial_id] = entry.number
        try:
            config = self.config.override({**entry.params, "name": f"{self.config.name}-{entry.number:04d}"})
            (entry.folder / "config.yaml").write_text(config.to_yaml(), encoding="utf-8")
        except ValueError as error:
            leave_error(entry.folder, error)
        return {"folder": str(entry.folder), **self.settings}

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """Nothing: Optuna learns of whole trials, and of others that they were stopped."""

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        number = self._numbers.pop(trial_id)
        release_place(self.ledger.entries[number].folder)
        note = self.ledger.entries[number].folder / ERROR_FILE
        if note.exists():
            entry = self.ledger.end(number, "FAILED", note.read_text(encoding="utf-8").partition("\n")[0])
        elif error:
            entry = self.ledger.end(number, "FAILED", "the process of the trial was lost, and lost again")
        else:
            entry = self.ledger.end(number, "FINISHED" if (result or {}).get(PERCENT_DONE, 0) >= 100 else "PRUNED")
            for of_no_more_use in ("checkpoints", "ray"):
                shutil.rmtree(entry.folder / of_no_more_use, ignore_errors=True)
        self._count(entry)
        if self._optuna is not None and trial_id in self._known_to_optuna:
            # A point that diverges is a bad point, as one that was stopped is; of others that failed nothing is known.
            failed = entry.state == "FAILED" and not entry.error.startswith(OWN_FAULT)
            self._optuna.on_trial_complete(trial_id, result if entry.state == "FINISHED" else None, failed)

    def save_to_dir(self, checkpoint_dir: str, session_str: str = "default") -> None:
        """Nothing: the ledger has it."""

    def __getstate__(self) -> dict[str, Any]:
        return {}  # Tune keeps a copy that nobody reads back

    def _count(self, entry: Entry) -> None:
        if not entry.error or (self._errors_in_row and _alike(entry.error) != _alike(self._errors_in_row[-1])):
            self._errors_in_row = []
        if entry.error:
            self._errors_in_row.append(entry.error)
        most = MOST_DIVERGED if entry.error.startswith(OWN_FAULT) else MOST_EQUAL_ERRORS
        if len(self._errors_in_row) >= most:
            where = entry.folder / ERROR_FILE
            self.stopped_because = (
                f"{most} trials in a row failed of the same error, and no more are begun: {entry.error}"
                f"{f' (the whole account: {where})' if where.exists() else ''}"
            )

    def _tell_earlier(self, entry: Entry) -> None:
        assert self._optuna is not None
        failed = entry.state == "FAILED" and not entry.error.startswith(OWN_FAULT)
        self._optuna.add_evaluated_point(dict(entry.params), entry.accuracy or 0.0, failed, entry.state != "FINISHED")


def sampler_for(options: SweepOptions, seed: int, num_known: int) -> optuna.samplers.BaseSampler:
    """Optuna's sampler for the search, going on where ``num_known`` points were drawn before."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    seed = seed + 1000 * num_known  # so that a sweep that goes on does not draw its first points again
    if options.search == "random":
        return optuna.samplers.RandomSampler(seed=seed)
    # Random points first; and a trial that still runs counts as poor, so that the next does not try the same.
    return optuna.samplers.TPESampler(
        seed=seed, n_startup_trials=min(10, max(4, options.num_trials // 3)), multivariate=True, constant_liar=True
    )


def _alike(error: str) -> str:
    """An error without the numbers and paths in which those of one kind differ."""
    return re.sub(r"\S*/\S*|[\d.e+-]*\d", "#", error)
