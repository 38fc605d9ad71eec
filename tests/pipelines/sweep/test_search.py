"""The sampler learns where the good points are, also from an earlier driver's trials."""

from __future__ import annotations

import math
from pathlib import Path
from statistics import fmean

from pipelines.sweep.options import SweepOptions
from pipelines.sweep.search import sampler_for
from pipelines.sweep.study import SweepStudy
from tests.pipelines.sweep.trials import SOFT, SPACE, begin_trial


def missed(folder: Path, *drivers: int) -> list[float]:
    """By how much each point of the last driver misses the best there is, soft_logits 120; so many trials a driver."""
    for num in drivers:
        missed: list[float] = []
        study = SweepStudy(folder, space=SPACE, sampler=sampler_for(SweepOptions(num_trials=30), 0))
        for _ in range(num):
            trial = begin_trial(study, None)
            missed.append(30 * math.log10(trial.params[SOFT] / 120) ** 2)
            study.report(trial.number, 100, 80 - missed[-1])
            study.end(trial.number, "PRUNED")
    return missed


def test_the_next_driver_s_search_knows_what_was_read_before(tmp_path: Path) -> None:
    """Told of 20 trials, it draws near their best point at once; told nothing, its first points are random."""
    assert fmean(missed(tmp_path / "told", 20, 10)) < 0.5 * fmean(missed(tmp_path / "new", 10))
