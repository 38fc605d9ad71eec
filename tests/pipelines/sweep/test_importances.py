"""What mattered in a sweep, beside what chance gives, and the pictures that show it."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pipelines.sweep.importances import FEWEST_TRIALS, Importance, counted_study, draw_pictures, importances
from pipelines.sweep.study import State, SweepTrial
from tests.pipelines.sweep.trials import SOFT, SPACE
from tests.pipelines.sweep.trials import ended_trial as trial


def sweep(
    num: int, accuracy: Callable[[dict[str, Any]], float], seed: int = 0, state: State = "FINISHED"
) -> list[SweepTrial]:
    """Trials at random points, with noise of 0.1 points."""
    draw = np.random.default_rng(seed)
    trials = []
    for number in range(num):
        point: dict[str, Any] = {SOFT: float(20 * 10 ** draw.uniform(-1, 1))}
        point |= {"objective.num_permutations": int(draw.integers(1, 13))}
        point |= {"optim.schedule": ("step", "cosine", "constant")[draw.integers(3)]}
        trials.append(trial(number, float(accuracy(point) + draw.normal(0, 0.1)), state, **point))
    return trials


def found(trials: Sequence[SweepTrial], num_shuffles: int = 40) -> tuple[Importance, ...]:
    return importances(counted_study(trials, SPACE), num_shuffles)


SIZES: dict[str, list[State]] = {
    "one": ["FINISHED"],
    "one pruned": ["PRUNED"],
    "three": ["FINISHED", "PRUNED", "FAILED"],
    "forty": [("FINISHED", "PRUNED", "FAILED", "FINISHED")[i % 4] for i in range(40)],  # type: ignore[misc]
}


@pytest.mark.parametrize("name", SIZES)
def test_a_sweep_of_any_size_is_drawn_without_a_warning(tmp_path: Path, name: str) -> None:
    """Also with a baseline whose choice is none of the space's."""
    own = {"optim.schedule": "linear", SOFT: 0.5}
    trials = [trial(i, None if s == "FAILED" else 50.0 + i, s, **({} if i else own)) for i, s in enumerate(SIZES[name])]
    study = counted_study(trials, SPACE if len(trials) > 1 else {SOFT: SPACE[SOFT]})
    mattered = [Importance(SOFT, 1.0, 0.4, True)] if len(trials) > 3 else []
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        draw_pictures(tmp_path, study, mattered, num_words=307)
    expected = {"history.png", "parallel_coordinates.png", "slices.png"} | ({"importances.png"} if mattered else set())
    assert {path.name for path in tmp_path.iterdir()} == expected
    for path in tmp_path.iterdir():
        with Image.open(path) as picture:
            assert len(picture.convert("L").getcolors() or ()) > 20  # not an empty page


def test_without_a_trial_that_was_read_there_is_no_picture(tmp_path: Path) -> None:
    draw_pictures(tmp_path, counted_study([trial(0, None, "FAILED", "x")], SPACE), [], num_words=307)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "accuracy"),
    [
        (SOFT, lambda p: 50 + 3 * np.log10(p[SOFT] / 20)),
        ("objective.num_permutations", lambda p: 50 + 0.5 * p["objective.num_permutations"]),
        ("optim.schedule", lambda p: 50 + 3 * (p["optim.schedule"] == "cosine")),
    ],
)
def test_the_parameter_that_decides_is_found_beyond_chance(
    name: str, accuracy: Callable[[dict[str, Any]], float]
) -> None:
    mattered = found(sweep(60, accuracy))
    assert (mattered[0].name, mattered[0].is_beyond_chance) == (name, True)
    assert sum(i.share for i in mattered) == pytest.approx(1)
    assert [i.share for i in mattered] == sorted((i.share for i in mattered), reverse=True)


def test_noise_is_rarely_called_important() -> None:
    """One sweep in twenty, by the meaning of ``chance``; more than 3 of 15 has a probability below 0.6 %."""
    noise = [found(sweep(24, lambda p: 50, seed)) for seed in range(15)]
    assert sum(any(i.is_beyond_chance for i in mattered) for mattered in noise) <= 3
    for importance in (i for mattered in noise for i in mattered):
        assert 0 < importance.chance < 1
        assert importance.is_beyond_chance == (importance.share > importance.chance)


def test_pruned_trials_count_and_failed_ones_do_not() -> None:
    """Half the sweep was pruned for its low weight: without those trials the weight would not matter."""
    good = [t for t in sweep(120, lambda p: 50) if t.params[SOFT] > 20]
    pruned = [t for t in sweep(120, lambda p: 40, 1, "PRUNED") if t.params[SOFT] < 20]
    failed = [t for t in sweep(120, lambda p: 40, 1, "FAILED") if t.params[SOFT] < 20]
    mattered = found([*good, *pruned])
    assert (mattered[0].name, mattered[0].is_beyond_chance) == (SOFT, True)
    assert SOFT not in {i.name for i in found([*good, *failed]) if i.is_beyond_chance}


def test_few_trials_or_equal_ones_tell_nothing() -> None:
    assert found(sweep(FEWEST_TRIALS - 1, lambda p: p["objective.num_permutations"])) == ()
    assert len(found(sweep(FEWEST_TRIALS, lambda p: p["objective.num_permutations"]), 5)) == len(SPACE)
    assert found([trial(number, 50.0) for number in range(20)]) == ()
    assert found([trial(number, None, "PRUNED") for number in range(20)]) == ()
