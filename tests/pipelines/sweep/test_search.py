"""Which points are tried before the sampler draws any, and that the sampler learns."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from ray import tune

from kdltr_core.config import RunConfig
from pipelines.sweep.options import SweepOptions
from pipelines.sweep.search import first_points, grid_points, sampler_for
from pipelines.sweep.study import SweepStudy
from tests.pipelines.sweep.trials import begin_trial
from tune_spaces.space import Space

SOFT = "objective.soft_logits"
SPACE = Space("s", {SOFT: tune.loguniform(2.0, 200.0), "optim.schedule": tune.choice(["step", "cosine"])})


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


BASELINE_MISSES = 30 * math.log10(20 / 120) ** 2


def mean(values: list[float]) -> float:
    return sum(values) / len(values)


def test_the_search_learns_where_the_good_points_are(tmp_path: Path) -> None:
    """Of 30 points the last ten miss the best accuracy by less than half of what the baseline misses it by."""
    assert mean(missed(tmp_path / "tpe", "tpe", 30)[20:]) < 0.5 * BASELINE_MISSES
    assert mean(missed(tmp_path / "random", "random", 30)[20:]) > BASELINE_MISSES


def test_the_next_driver_s_search_knows_what_was_read_before(tmp_path: Path) -> None:
    """Told of 20 trials, it draws near their best point at once; told nothing, its first points are random."""
    assert mean(missed(tmp_path / "told", "tpe", 30, num_told=20)) < 0.5 * BASELINE_MISSES
    assert mean(missed(tmp_path / "new", "tpe", 10)) > BASELINE_MISSES


def test_the_baseline_comes_first_and_no_point_twice() -> None:
    space = Space("s", {SOFT: tune.uniform(1, 30)}, ({SOFT: 5}, {SOFT: 20.0}, {SOFT: 5.0}))
    assert first_points(space, RunConfig()) == [{SOFT: 20.0}, {SOFT: 5}]
    assert first_points(space, RunConfig().override({SOFT: 7.0}))[0] == {SOFT: 7.0}


def test_a_grid_has_all_choices_and_equally_many_values_of_every_range() -> None:
    """Log ranges in equal ratios, others in equal steps, both ends included."""
    space = Space("s", {"a": tune.loguniform(0.1, 10.0), "b": tune.uniform(0.0, 1.0), "c": tune.choice(["x", "y"])})
    points = grid_points(space, 20)
    assert len({tuple(p.values()) for p in points}) == len(points) == 18
    assert sorted({p["a"] for p in points}) == pytest.approx([0.1, 1.0, 10.0])
    assert sorted({p["b"] for p in points}) == [0.0, 0.5, 1.0]
    assert {p["c"] for p in points} == {"x", "y"}
    assert all(space.holds(point) for point in points)


def test_whole_numbers_stay_whole_and_ends_are_exact() -> None:
    assert grid_points(Space("s", {"n": tune.randint(1, 4)}), 100) == [{"n": 1}, {"n": 2}, {"n": 3}]
    assert 0.3 * (0.9 / 0.3) != 0.9
    assert grid_points(Space("s", {"x": tune.loguniform(0.3, 0.9)}), 2) == [{"x": 0.3}, {"x": 0.9}]


def test_points_tried_anyway_are_not_repeated_and_leave_a_grid_coarser() -> None:
    space = Space("s", {"c": tune.choice(["x", "y"]), "d": tune.choice([1, 2])})
    own, other = {"c": "y", "d": 1}, {"c": "z", "d": 1}
    rest = [{"c": "x", "d": 1}, {"c": "x", "d": 2}, {"c": "y", "d": 2}]
    assert grid_points(space, 4, beside=[own]) == rest
    assert grid_points(space, 5, beside=[own, other]) == rest
    line = Space("s", {"x": tune.uniform(0.0, 1.0)})
    assert [point["x"] for point in grid_points(line, 4, beside=[{"x": 0.3}])] == [0.0, 0.5, 1.0]


def test_a_grid_that_does_not_fit_is_refused_with_its_size() -> None:
    space = Space("s", {name: tune.uniform(0, 1) for name in "abcd"})
    assert len(grid_points(space, 16)) == 16
    with pytest.raises(ValueError, match=r"has 16 points at least, .* room for 15"):
        grid_points(space, 15)
