"""The pictures of a sweep, and which trials they are drawn from."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import optuna
import pytest
from optuna.trial import TrialState
from PIL import Image

from pipelines.sweep.pictures import FEWEST_TRIALS, counted_study, draw_pictures
from tests.pipelines.sweep.trials import SOFT, SPACE

ALWAYS = {"history.png", "parallel_coordinates.png", "slices.png"}


def sweep(*accuracies: float, state: TrialState = TrialState.PRUNED) -> optuna.Study:
    """Trials at random points, the first outside the space."""
    draw = np.random.default_rng(0)
    study = optuna.create_study(direction="maximize")
    study.add_trial(optuna.create_trial(value=50.0, user_attrs={"accuracy": 50.0}))
    for accuracy in accuracies:
        point = {SOFT: float(20 * 10 ** draw.uniform(-1, 1)), "objective.num_permutations": int(draw.integers(1, 13))}
        point |= {"optim.schedule": ("step", "cosine", "constant")[draw.integers(3)]}
        attributes = {"accuracy": accuracy}
        study.add_trial(
            optuna.create_trial(
                params=point, distributions=dict(SPACE.distributions), state=state, user_attrs=attributes
            )
        )
    return study


@pytest.mark.parametrize(
    ("num", "names"), [(0, set()), (1, ALWAYS), (3, ALWAYS), (FEWEST_TRIALS, {*ALWAYS, "importances.png"})]
)
def test_a_sweep_of_any_size_is_drawn_without_a_warning(tmp_path: Path, num: int, names: set[str]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        draw_pictures(tmp_path, sweep(*(50.0 + i for i in range(num))))
    assert {path.name for path in tmp_path.iterdir()} == names
    for path in tmp_path.iterdir():
        with Image.open(path) as picture:
            assert len(picture.convert("L").getcolors() or ()) > 20  # not an empty page


def test_nothing_is_important_where_all_trials_are_alike(tmp_path: Path) -> None:
    assert {path.name for path in draw_pictures(tmp_path, sweep(*[50.0] * 20))} == ALWAYS


def test_a_stopped_trial_counts_with_the_best_that_was_read_of_it_and_a_failed_one_not() -> None:
    assert [trial.value for trial in counted_study(sweep(40.0, 41.0)).trials] == [40.0, 41.0]
    assert counted_study(sweep(40.0, state=TrialState.FAIL)).trials == []
