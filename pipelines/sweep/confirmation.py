"""The confirmation: the best points and the one to beat, trained anew with seeds that the sweep has not seen."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from kdltr_core.config import RunConfig
from kdltr_core.evaluation.significance import SignificanceTest, compare_paired, read_correct
from pipelines.sweep.end import title
from pipelines.sweep.folder import SweepFolder
from pipelines.sweep.study import Entry, plain
from pipelines.sweep.sweep import Trial, finished

BASELINE = "the published point"


def contenders(folder: SweepFolder) -> dict[str, dict[str, Any]]:
    """The point to beat, then the best trials of other points that ran to their end, by their titles.

    Two trials of one point are one contender.
    """
    points: dict[str, dict[str, Any]] = {BASELINE: folder.trials.published}
    trials: Sequence[Trial] = finished([entry.to_trial() for entry in folder.trials.ended])
    for trial in trials:
        if len(points) <= folder.options.confirm and dict(trial.params) not in points.values():
            points[title(trial)] = dict(trial.params)
    return points


def points_with_seeds(folder: SweepFolder, config: RunConfig) -> list[dict[str, Any]]:
    """What is to be trained: all contenders with the first seed, then with the next, so that a part is of use too.

    The sweep's own seed is not among them: with it the contenders were chosen.
    """
    seeds = [config.seed + 1 + place for place in range(folder.options.confirm_seeds)]
    return [plain({**point, "seed": seed}) for seed in seeds for point in contenders(folder).values()]


def significance_of(folder: SweepFolder, config: RunConfig, say: Callable[[str], None]) -> SignificanceTest | None:
    """The verdict on what was trained; None, with a sentence, where it does not suffice for one.

    A contender counts if every one of its seeds came to its end.
    """
    done = {_key(entry.params): entry for entry in folder.confirmation.ended if entry.state == "FINISHED"}
    correct = {}
    for name, point in contenders(folder).items():
        entries: list[Entry | None] = [
            done.get(_key(plain({**point, "seed": config.seed + 1 + place})))
            for place in range(folder.options.confirm_seeds)
        ]
        files = [entry.folder / "evaluation" / "predictions.parquet" for entry in entries if entry is not None]
        if len(files) == len(entries):
            correct[name] = read_correct(files, config.recognizer.trained_column)
        else:
            say(f"the confirmation has no whole set of seeds for {name}, which is left out of the verdict")
    if BASELINE not in correct or len(correct) < 2:
        say("there is no verdict: it takes the published point and at least one other, each with all its seeds")
        return None
    return compare_paired(correct.pop(BASELINE), correct, name=BASELINE)


def _key(params: Any) -> str:
    return repr(sorted(dict(params).items()))
