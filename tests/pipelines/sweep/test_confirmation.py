"""The confirmation: who is trained anew, with which seeds, and what is made of it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

import pytest

from kdltr_core.config import RunConfig
from kdltr_core.evaluation.table import STUDENT_LOW_RES, TEACHER_HIGH_RES, Column
from pipelines.sweep.folder import SweepFolder
from pipelines.sweep.options import SweepOptions
from pipelines.sweep.study import BASELINE
from tests.pipelines.sweep.trials import train_candidate, try_point
from tune_spaces.space import Space, load_space

SOFT = "objective.soft_logits"
SPACE = Space({SOFT: load_space("loss_weights").distributions[SOFT]})
TEACHER = {"recognizer.resolution": "high_res", "recognizer.student_start": "random", "objective.name": "supervised"}


def sweep(tmp_path: Path, changes: Mapping[str, str] = MappingProxyType({}), **options: int) -> SweepFolder:
    config = RunConfig(name="sweep", output_folder=str(tmp_path), seed=7).override(changes)
    return SweepFolder(config, SweepOptions.model_validate({"confirm": 2, **options}), SPACE)


def test_the_best_finished_trials_stand_against_the_baseline(tmp_path: Path) -> None:
    """Which is there even where it won, and two trials of one point are one."""
    folder = sweep(tmp_path)
    assert folder.confirmation.fields == {BASELINE: {SOFT: 20.0}}
    try_point(folder.trials, {SOFT: 5.0}, 71.0)
    assert folder.confirmation.fields == {BASELINE: {SOFT: 20.0}, "trial 0": {SOFT: 5.0}}
    try_point(folder.trials, {SOFT: 20.0}, 99.0)
    try_point(folder.trials, {SOFT: 6.0}, 90.0, state="PRUNED")
    try_point(folder.trials, {SOFT: 7.0}, 73.0)
    try_point(folder.trials, {SOFT: 8.0}, 60.0)
    assert folder.confirmation.fields == {BASELINE: {SOFT: 20.0}, "trial 3": {SOFT: 7.0}, "trial 0": {SOFT: 5.0}}


@pytest.mark.parametrize(("changes", "column"), [({}, STUDENT_LOW_RES), (TEACHER, TEACHER_HIGH_RES)])
def test_the_test_is_on_the_same_words_and_seeds(tmp_path: Path, changes: dict[str, str], column: Column) -> None:
    """Trial 0 reads 30 of 40 words where the baseline reads 20, with every seed: a gain of 25 points.

    Sweeps of teachers are tested by what the teachers read of high_res: their tables have no student.
    """
    folder = sweep(tmp_path, changes, confirm=1)
    assert folder.confirmation.seeds == (8, 9, 10)  # the sweep's own is 7
    try_point(folder.trials, {SOFT: 5.0}, 71.0)
    for seed in (8, 9, 10):
        for value, right in ((20.0, "10" * 20), (5.0, "1110" * 10)):
            train_candidate(folder.confirmation.study, {SOFT: value, "seed": seed}, right, of=column)
    test = folder.confirmation.compare().significance
    assert test is not None
    assert (test.winner.name, test.winner.points, test.is_better) == ("trial 0", pytest.approx(25.0), True)
    assert test.accuracies[BASELINE] == pytest.approx((50.0, 50.0, 50.0))
