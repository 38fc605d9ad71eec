"""The sampler learns where the good points are, also from an earlier driver's trials."""

from __future__ import annotations

import math
from pathlib import Path

from pipelines.sweep.options import SweepOptions
from pipelines.sweep.search import sampler_for
from pipelines.sweep.study import SweepStudy
from tests.pipelines.sweep.trials import SOFT, SPACE, begin_trial


def missed(folder: Path, search: str, num_trials: int, num_told: int = 0) -> list[float]:
    """By how much each of the points misses the best there is, which is soft_logits 120; from the one at ``told`` on.

    A second driver goes on after that many.
    """
    missed: list[float] = []
    for num in (num_told, num_trials - num_told):
        options = SweepOptions.model_validate({"num_trials": 30, "search": search})
        study = SweepStudy(folder, space=SPACE, sampler=sampler_for(options, 0))
        for _ in range(num):
            trial = begin_trial(study, None)
            missed.append(30 * math.log10(trial.params[SOFT] / 120) ** 2)
            study.report(trial.number, 100, 80 - missed[-1])
            study.end(trial.number, "PRUNED")
    return missed[num_told:]


def mean(values: list[float]) -> float:
    return sum(values) / len(values)


def test_the_search_learns_where_the_good_points_are(tmp_path: Path) -> None:
    """Of 30 points the last ten miss the best accuracy by less than half of what random ones miss it by."""
    assert mean(missed(tmp_path / "tpe", "tpe", 30)[20:]) < 0.5 * mean(missed(tmp_path / "random", "random", 30))


def test_the_next_driver_s_search_knows_what_was_read_before(tmp_path: Path) -> None:
    """Told of 20 trials, it draws near their best point at once; told nothing, its first points are random."""
    assert mean(missed(tmp_path / "told", "tpe", 30, num_told=20)) < 0.5 * mean(missed(tmp_path / "new", "tpe", 10))
