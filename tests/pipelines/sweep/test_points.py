"""The points that are tried before a searcher draws any."""

from __future__ import annotations

import pytest
from ray import tune

from kdltr_core.config import RunConfig
from pipelines.sweep.points import first_points, grid_points
from tune_spaces.space import Space


def test_the_config_s_own_point_comes_first_and_no_point_twice() -> None:
    space = Space(
        "s",
        {"objective.soft_logits": tune.uniform(1, 30)},
        ({"objective.soft_logits": 5}, {"objective.soft_logits": 20.0}, {"objective.soft_logits": 5.0}),
    )
    assert first_points(space, RunConfig()) == [{"objective.soft_logits": 20.0}, {"objective.soft_logits": 5}]
    own = RunConfig().override({"objective.soft_logits": 7.0})
    assert first_points(space, own)[0] == {"objective.soft_logits": 7.0}


def test_a_grid_has_all_choices_and_equally_many_values_of_every_range() -> None:
    """Log ranges in equal ratios, others in equal steps, both ends included."""
    space = Space(
        "s",
        {"a": tune.loguniform(0.1, 10.0), "b": tune.uniform(0.0, 1.0), "c": tune.choice(["x", "y"])},
    )
    points = grid_points(space, 20)
    assert len(points) == 18
    assert sorted({p["a"] for p in points}) == pytest.approx([0.1, 1.0, 10.0])
    assert sorted({p["b"] for p in points}) == [0.0, 0.5, 1.0]
    assert {p["c"] for p in points} == {"x", "y"}
    assert len({tuple(p.values()) for p in points}) == 18
    assert all(space.holds(point) for point in points)


def test_whole_numbers_stay_whole_and_come_once() -> None:
    assert grid_points(Space("s", {"n": tune.randint(1, 4)}), 100) == [{"n": 1}, {"n": 2}, {"n": 3}]


def test_the_last_value_is_the_very_end_of_its_range() -> None:
    assert 0.3 * (0.9 / 0.3) != 0.9
    assert grid_points(Space("s", {"x": tune.loguniform(0.3, 0.9)}), 2) == [{"x": 0.3}, {"x": 0.9}]


def test_choices_alone_make_a_grid() -> None:
    assert grid_points(Space("s", {"c": tune.choice(["x", "y"])}), 7) == [{"c": "x"}, {"c": "y"}]


def test_a_point_that_is_tried_anyway_takes_no_more_room_where_it_is_one_of_the_grid_s() -> None:
    space = Space("s", {"c": tune.choice(["x", "y"]), "d": tune.choice([1, 2])})
    own, other = {"c": "y", "d": 1}, {"c": "z", "d": 1}
    rest = [{"c": "x", "d": 1}, {"c": "x", "d": 2}, {"c": "y", "d": 2}]
    assert grid_points(space, 4, beside=[own]) == rest
    assert grid_points(space, 5, beside=[own, other]) == rest
    with pytest.raises(ValueError, match="has 4 points at least, and with those tried first there is room for 4"):
        grid_points(space, 4, beside=[other])
    narrow = Space("s", {"c": tune.choice(["x", "y"])})
    assert grid_points(narrow, 3, beside=[{"c": "z"}]) == [{"c": "x"}, {"c": "y"}]


def test_points_beside_the_grid_leave_it_coarser() -> None:
    space = Space("s", {"x": tune.uniform(0.0, 1.0)})
    assert len(grid_points(space, 10)) == 10
    assert [point["x"] for point in grid_points(space, 4, beside=[{"x": 0.3}])] == [0.0, 0.5, 1.0]
    # Five values, two of them there already.
    assert len(grid_points(space, 5, beside=[{"x": 0.5}, {"x": 0.25}])) == 3


def test_a_grid_that_does_not_fit_is_refused_with_its_size() -> None:
    space = Space("s", {name: tune.uniform(0, 1) for name in "abcd"})
    assert len(grid_points(space, 16)) == 16
    with pytest.raises(ValueError, match=r"has 16 points at least, .* room for 15"):
        grid_points(space, 15)
