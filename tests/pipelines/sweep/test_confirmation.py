"""The confirmation: who is trained anew, with which seeds, and what is made of it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

import pytest

from kdltr_core.config import RunConfig
from kdltr_core.evaluation.table import STUDENT_LOW_RES, TEACHER_HIGH_RES, Column, WordResult, write_predictions
from pipelines.run.metrics_log import MetricsLog
from pipelines.sweep.confirmation import BASELINE, contenders, points_with_seeds, significance_of
from pipelines.sweep.folder import SweepFolder
from pipelines.sweep.options import SweepOptions
from pipelines.sweep.study import Entry, Ledger
from pipelines.sweep.sweep import State
from tune_spaces.space import Space, load_space

SOFT = "objective.soft_logits"


@pytest.fixture
def space() -> Space:
    full = load_space("loss_weights")
    return Space("soft", {SOFT: full.domains[SOFT]})


TEACHER = {
    "recognizer.resolution": "high_res",
    "recognizer.student_start": "random",
    "objective.name": "supervised",
}


def sweep(
    tmp_path: Path, space: Space, changes: Mapping[str, str] = MappingProxyType({}), **options: int
) -> SweepFolder:
    config = RunConfig(name="sweep", output_folder=str(tmp_path), seed=7).override(changes)
    return SweepFolder(config, SweepOptions.model_validate({"confirm": 2, **options}), space)


def try_point(ledger: Ledger, value: float, accuracy: float, state: State = "FINISHED") -> Entry:
    entry = ledger.begin({SOFT: value})
    MetricsLog(entry.folder / "metrics.jsonl").record(0, {"validation/word_accuracy": accuracy})
    return ledger.end(entry.number, state)


def confirm(
    folder: SweepFolder,
    value: float,
    seed: int,
    right: list[bool],
    state: State = "FINISHED",
    column: Column = STUDENT_LOW_RES,
) -> None:
    entry = folder.confirmation.begin({SOFT: value, "seed": seed})
    (entry.folder / "evaluation").mkdir()
    readings = [
        WordResult("set", row, str(row), "word", {column: "word" if ok else "ward"}) for row, ok in enumerate(right)
    ]
    write_predictions(entry.folder / "evaluation" / "predictions.parquet", readings)
    folder.confirmation.end(entry.number, state)


def test_the_best_finished_trials_stand_against_the_published_point(tmp_path: Path, space: Space) -> None:
    folder = sweep(tmp_path, space)
    try_point(folder.trials, 20.0, 70.0)
    try_point(folder.trials, 5.0, 71.0)
    try_point(folder.trials, 6.0, 90.0, "PRUNED")
    try_point(folder.trials, 7.0, 73.0)
    try_point(folder.trials, 7.0, 73.0)
    try_point(folder.trials, 8.0, 60.0)
    assert contenders(folder) == {BASELINE: {SOFT: 20.0}, "trial 3": {SOFT: 7.0}, "trial 1": {SOFT: 5.0}}


def test_the_published_point_is_the_baseline_even_where_it_won_or_was_not_tried(tmp_path: Path, space: Space) -> None:
    folder = sweep(tmp_path, space)
    try_point(folder.trials, 5.0, 71.0)
    assert contenders(folder) == {BASELINE: {SOFT: 20.0}, "trial 0": {SOFT: 5.0}}
    try_point(folder.trials, 20.0, 99.0)
    assert contenders(folder) == {BASELINE: {SOFT: 20.0}, "trial 0": {SOFT: 5.0}}


def test_seeds_are_new_and_each_is_done_by_all_before_the_next(tmp_path: Path, space: Space) -> None:
    folder = sweep(tmp_path, space, confirm_seeds=2)
    try_point(folder.trials, 5.0, 71.0)
    points = [(point[SOFT], point["seed"]) for point in points_with_seeds(folder, folder.config)]
    assert points == [(20.0, 8), (5.0, 8), (20.0, 9), (5.0, 9)]


def test_the_verdict_is_on_the_same_words_and_seeds(tmp_path: Path, space: Space) -> None:
    """Trial 0 reads 30 of 40 words where the published point reads 20, with every seed: a gain of 25 points."""
    folder = sweep(tmp_path, space, confirm=1)
    try_point(folder.trials, 5.0, 71.0)
    for seed in (8, 9, 10):
        confirm(folder, 20.0, seed, [row < 20 for row in range(40)])
        confirm(folder, 5.0, seed, [row < 30 for row in range(40)])
    said: list[str] = []
    verdict = significance_of(folder, folder.config, said.append)
    assert verdict is not None
    assert (verdict.winner.name, verdict.winner.points, verdict.is_better) == ("trial 0", pytest.approx(25.0), True)
    assert verdict.accuracies[BASELINE] == pytest.approx((50.0, 50.0, 50.0))
    assert said == []


def test_sweeps_of_teachers_are_confirmed_by_what_the_teachers_read_of_high_res(tmp_path: Path, space: Space) -> None:
    """Their tables have no student. 30 of 40 words with every seed against 20: 25 points."""
    folder = sweep(tmp_path, space, TEACHER, confirm=1)
    try_point(folder.trials, 5.0, 71.0)
    for seed in (8, 9, 10):
        confirm(folder, 20.0, seed, [row < 20 for row in range(40)], column=TEACHER_HIGH_RES)
        confirm(folder, 5.0, seed, [row < 30 for row in range(40)], column=TEACHER_HIGH_RES)
    verdict = significance_of(folder, folder.config, print)
    assert verdict is not None
    assert verdict.winner.points == pytest.approx(25.0)


def test_who_lacks_a_seed_is_left_out_and_that_is_said(tmp_path: Path, space: Space) -> None:
    folder = sweep(tmp_path, space, confirm_seeds=2)
    try_point(folder.trials, 5.0, 71.0)
    try_point(folder.trials, 6.0, 70.0)
    right = [True] * 10 + [False] * 10
    for value, seed in ((20.0, 8), (5.0, 8), (6.0, 8), (20.0, 9), (6.0, 9)):
        confirm(folder, value, seed, right)
    confirm(folder, 5.0, 9, right, "FAILED")
    said: list[str] = []
    verdict = significance_of(folder, folder.config, said.append)
    assert verdict is not None
    assert [gain.name for gain in verdict.gains] == ["trial 1"]
    assert len(said) == 1
    assert "trial 0" in said[0]


def test_without_the_baseline_there_is_no_verdict(tmp_path: Path, space: Space) -> None:
    folder = sweep(tmp_path, space, confirm_seeds=1)
    try_point(folder.trials, 5.0, 71.0)
    confirm(folder, 5.0, 8, [True, False])
    said: list[str] = []
    assert significance_of(folder, folder.config, said.append) is None
    assert "there is no verdict" in said[-1]
