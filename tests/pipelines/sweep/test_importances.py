"""What mattered in a sweep, and the pictures of it."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
from optuna.trial import TrialState
from PIL import Image

from pipelines.sweep.importances import FEWEST_TRIALS, counted_study, draw_pictures, importances
from tests.pipelines.sweep.trials import SOFT, SPACE

NAMES = list(SPACE.distributions)


def sweep(
    accuracies: Sequence[float | Callable[[dict[str, Any]], float]], state: TrialState = TrialState.COMPLETE
) -> optuna.Study:
    """Trials at random points that were read as often, the first outside the space."""
    draw = np.random.default_rng(0)
    study = optuna.create_study(direction="maximize")
    study.add_trial(optuna.create_trial(value=50.0, user_attrs={"accuracy": 50.0}))
    for accuracy in accuracies:
        point: dict[str, Any] = {SOFT: float(20 * 10 ** draw.uniform(-1, 1))}
        point |= {"objective.num_permutations": int(draw.integers(1, 13))}
        point |= {"optim.schedule": ("step", "cosine", "constant")[draw.integers(3)]}
        value = accuracy(point) + draw.normal(0, 0.1) if callable(accuracy) else accuracy
        study.add_trial(
            optuna.create_trial(
                params=point,
                distributions=dict(SPACE.distributions),
                value=value if state == TrialState.COMPLETE else None,
                state=state,
                user_attrs={"accuracy": value},
            )
        )
    return counted_study(study)


@pytest.mark.parametrize("num", [1, 3, 40])
def test_a_sweep_of_any_size_is_drawn_without_a_warning(tmp_path: Path, num: int) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        draw_pictures(tmp_path, sweep([50.0 + i for i in range(num)]))
    assert {path.name for path in tmp_path.iterdir()} == {"history.png", "parallel_coordinates.png", "slices.png"}
    for path in tmp_path.iterdir():
        with Image.open(path) as picture:
            assert len(picture.convert("L").getcolors() or ()) > 20  # not an empty page


@pytest.mark.parametrize(
    ("name", "accuracy"),
    [
        (SOFT, lambda p: 50 + 3 * np.log10(p[SOFT] / 20)),
        ("objective.num_permutations", lambda p: 50 + 0.5 * p["objective.num_permutations"]),
        ("optim.schedule", lambda p: 50 + 3 * (p["optim.schedule"] == "cosine")),
    ],
)
@pytest.mark.parametrize("state", [TrialState.COMPLETE, TrialState.PRUNED])
def test_the_parameter_that_decides_is_the_first(
    name: str, accuracy: Callable[[dict[str, Any]], float], state: TrialState
) -> None:
    found = importances(sweep([accuracy] * 60, state), NAMES)
    assert next(iter(found)) == name
    assert set(found) == set(NAMES)
    assert sum(found.values()) == pytest.approx(1)
    assert list(found.values()) == sorted(found.values(), reverse=True)


def test_few_trials_or_equal_ones_tell_nothing(tmp_path: Path) -> None:
    assert importances(sweep([float(i) for i in range(FEWEST_TRIALS - 1)]), NAMES) == {}
    assert importances(sweep([float(i) for i in range(20)], TrialState.FAIL), NAMES) == {}
    assert importances(sweep([50.0] * 20), NAMES) == {}
    draw_pictures(tmp_path, optuna.create_study())
    assert list(tmp_path.iterdir()) == []
