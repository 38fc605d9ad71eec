"""Importances find what matters, call noise noise, and take any trial a sweep can have."""

import warnings

import numpy as np
import pytest

from pipelines.sweep.importances import FEWEST_TRIALS, importances
from pipelines.sweep.sweep import Parameter, Trial

SPACE = [
    Parameter("weight", 0.1, 10.0, log=True),
    Parameter("paths", 1, 12, is_integer=True),
    Parameter("schedule", choices=("step", "cosine", "constant")),
]


def sweep(num_trials, accuracy, seed=0, state="FINISHED"):
    generator = np.random.default_rng(seed)
    trials = []
    for number in range(num_trials):
        params = {
            "weight": float(10 ** generator.uniform(-1, 1)),
            "paths": int(generator.integers(1, 13)),
            "schedule": ("step", "cosine", "constant")[generator.integers(3)],
        }
        trials.append(Trial(number, params, float(accuracy(params) + generator.normal(0, 0.1)), state))
    return trials


@pytest.mark.parametrize(
    ("name", "accuracy"),
    [
        ("weight", lambda p: 50 + 3 * np.log10(p["weight"])),
        ("paths", lambda p: 50 + 0.5 * p["paths"]),
        ("schedule", lambda p: 50 + 3 * (p["schedule"] == "cosine")),
    ],
)
def test_the_parameter_that_decides_is_found_beyond_chance(name, accuracy):
    found = importances(sweep(60, accuracy), SPACE, num_shuffles=40)
    assert found[0].name == name
    assert found[0].is_beyond_chance
    assert sum(i.share for i in found) == pytest.approx(1)
    assert [i.share for i in found] == sorted((i.share for i in found), reverse=True)


def test_noise_is_rarely_called_important():
    """One sweep in twenty, by the meaning of ``chance``; more than 3 of 15 has a probability below 0.6 %."""
    alarms = [
        any(i.is_beyond_chance for i in importances(sweep(24, lambda p: 50, seed), SPACE, num_shuffles=40))
        for seed in range(15)
    ]
    assert sum(alarms) <= 3


def test_pruned_trials_count_and_failed_ones_do_not():
    """Half the sweep was pruned for its low weight: without those trials the weight would not matter."""
    good = [t for t in sweep(120, lambda p: 50) if t.params["weight"] > 1]
    bad = [t for t in sweep(120, lambda p: 40, seed=1) if t.params["weight"] < 1]
    pruned = [Trial(t.number, t.params, None, "PRUNED", [(10, t.value)]) for t in bad]
    failed = [Trial(t.number, t.params, t.value, "FAILED") for t in bad]
    with_pruned = importances(good + pruned, SPACE, num_shuffles=40)
    assert (with_pruned[0].name, with_pruned[0].is_beyond_chance) == ("weight", True)
    assert importances(good + failed, SPACE, num_shuffles=5) == importances(good, SPACE, num_shuffles=5)


def test_few_trials_or_equal_ones_tell_nothing():
    assert importances(sweep(FEWEST_TRIALS - 1, lambda p: p["paths"]), SPACE) == ()
    assert len(importances(sweep(FEWEST_TRIALS, lambda p: p["paths"]), SPACE)) == len(SPACE)
    equal = [Trial(t.number, t.params, 50.0, "FINISHED") for t in sweep(20, lambda p: 50)]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert importances(equal, SPACE) == ()
    unread = [Trial(t.number, t.params, None, "PRUNED") for t in sweep(20, lambda p: 50)]
    assert importances(unread, SPACE) == ()


def test_a_published_point_outside_the_space_is_taken():
    trials = sweep(30, lambda p: 50 + p["paths"])
    trials[0] = Trial(0, {"weight": 0.0, "paths": 20, "schedule": "linear"}, 50.0, "FINISHED", is_published=True)
    assert importances(trials, SPACE)[0].name == "paths"


def test_the_same_trials_give_the_same_importances():
    trials = sweep(30, lambda p: 50 + p["paths"])
    assert importances(trials, SPACE, num_shuffles=5) == importances(trials, SPACE, num_shuffles=5)


def test_chance_is_a_share_also_where_the_true_figures_are_smaller_than_those_of_chance():
    """In sweeps of noise the shuffled figures are often larger than all the true ones together."""
    for seed in range(6):
        for importance in importances(sweep(24, lambda p: 50, seed), SPACE, num_shuffles=20):
            assert 0 < importance.chance < 1
            assert importance.is_beyond_chance == (importance.share > importance.chance)


def test_a_single_parameter_has_the_whole_share_and_may_still_be_chance():
    decides = importances(sweep(60, lambda p: 50 + 0.5 * p["paths"]), SPACE[1:2], num_shuffles=40)
    idle = importances(sweep(60, lambda p: 50), SPACE[1:2], num_shuffles=40)
    assert [(i.share, i.chance) for i in (*decides, *idle)] == [(1, 1), (1, 1)]
    assert [i.is_beyond_chance for i in (*decides, *idle)] == [True, False]
