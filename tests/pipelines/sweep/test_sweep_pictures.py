"""Pictures of sweeps of any size: every trial is in them, with its mark, and nothing overflows."""

import warnings

import numpy as np
import pytest
from PIL import Image

from pipelines.sweep.parallel_coordinates import _Column
from pipelines.sweep.sweep import Importance, Parameter, Trial
from pipelines.sweep.sweep_pictures import draw_history, draw_importances, draw_slices, draw_sweep

SPACE = [
    Parameter("objective.soft_logits", 2.0, 200.0, log=True),
    Parameter("objective.num_paths", 1, 12, is_integer=True),
    Parameter("optim.schedule", choices=("step", "cosine")),
]
BLUE, GREY_BAR, ORANGE, RED = (11, 107, 203), (223, 227, 232), (194, 87, 12), (200, 16, 46)


def sweep(states, published=0):
    generator = np.random.default_rng(0)
    trials = []
    for number, state in enumerate(states):
        values = (
            float(10 ** generator.uniform(0.4, 2.2)),
            int(generator.integers(1, 13)),
            ("step", "cosine")[number % 2],
        )
        params = dict(zip((p.name for p in SPACE), values, strict=True))
        accuracy = None if state == "FAILED" else float(generator.uniform(40, 60))
        trials.append(Trial(number, params, accuracy, state, is_published=number == published))
    return trials


def count(path, colour):
    """Pixels of about that colour."""
    pixels = np.asarray(Image.open(path).convert("RGB")).astype(int)
    return int((np.abs(pixels - colour).max(axis=2) < 12).sum())


SIZES = {
    "one": ["FINISHED"],
    "one failed": ["FAILED"],
    "one pruned": ["PRUNED"],
    "three": ["FINISHED", "PRUNED", "FAILED"],
    "hundred": [("FINISHED", "PRUNED", "FAILED", "FINISHED")[i % 4] for i in range(100)],
}


@pytest.mark.parametrize("name", SIZES)
def test_a_sweep_of_any_size_is_drawn_without_a_warning(tmp_path, name):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        paths = draw_sweep(tmp_path, sweep(SIZES[name]), SPACE, [Importance("x", 1.0, 0.4, True)], num_words=307)
    assert [p.name for p in paths] == ["history.png", "parallel_coordinates.png", "slices.png", "importances.png"]
    for path in paths[:3]:
        assert (count(path, RED) > 30) == ("FAILED" in SIZES[name])
        assert (count(path, ORANGE) > 60) == ("FINISHED" in SIZES[name])
        assert Image.open(path).size[0] < 2000


def test_without_trials_there_is_no_picture(tmp_path):
    assert draw_sweep(tmp_path, [], SPACE, [], num_words=307) == []
    assert list(tmp_path.iterdir()) == []


def test_every_trial_has_its_mark(tmp_path):
    """A panel more of each kind is more ink of its colour, in history and slices alike."""
    draw_history(tmp_path / "few.png", sweep(["FINISHED"] * 3 + ["FAILED"]), num_words=307)
    draw_history(tmp_path / "many.png", sweep(["FINISHED"] * 9 + ["FAILED"] * 3), num_words=307)
    assert count(tmp_path / "many.png", BLUE) > 2 * count(tmp_path / "few.png", BLUE) > 0
    assert count(tmp_path / "many.png", RED) > 1.5 * count(tmp_path / "few.png", RED) > 0
    draw_slices(tmp_path / "one.png", sweep(["FINISHED"] * 3), SPACE[:1])
    draw_slices(tmp_path / "three.png", sweep(["FINISHED"] * 3), SPACE)
    assert count(tmp_path / "three.png", BLUE) > 2 * count(tmp_path / "one.png", BLUE) > 0


def test_a_trial_that_failed_after_a_good_reading_is_not_the_best(tmp_path):
    trials = sweep(["FINISHED", "FAILED"])
    trials[1] = Trial(1, trials[1].params, 99.0, "FAILED")
    draw_history(tmp_path / "history.png", trials, num_words=307)
    draw_history(tmp_path / "unread.png", [trials[0], Trial(1, trials[1].params, None, "FAILED")], num_words=307)
    assert (tmp_path / "history.png").read_bytes() == (tmp_path / "unread.png").read_bytes()


def test_bars_within_chance_are_grey(tmp_path):
    beyond = [Importance("x", 0.7, 0.4, True), Importance("y", 0.3, 0.2, True)]
    within = [Importance("x", 0.7, 0.9, False), Importance("y", 0.3, 0.6, False)]
    draw_importances(tmp_path / "beyond.png", beyond)
    draw_importances(tmp_path / "within.png", within)
    assert count(tmp_path / "beyond.png", BLUE) > 5000
    assert count(tmp_path / "within.png", BLUE) == 0
    assert count(tmp_path / "within.png", GREY_BAR) > 5000


@pytest.mark.parametrize(
    ("parameter", "tried", "value", "height"),
    [
        (Parameter("x", 1.0, 100.0, log=True), [], 10.0, 0.5),
        (Parameter("x", 0.0, 8.0), [], 2.0, 0.25),
        (Parameter("x", 0.0, 8.0), [16.0], 8.0, 0.5),  # the published point may lie outside
        (Parameter("x", 1.0, 100.0, log=True), [0.0], 50.0, 0.5),  # a weight of 0 has no place on a log axis
        (Parameter("x", choices=("a", "b")), [], "b", 0.75),
        (Parameter("x", choices=("a", "b")), ["c"], "c", 5 / 6),
    ],
)
def test_a_value_has_its_place_on_its_axis(parameter, tried, value, height):
    assert _Column(parameter, tried).height(value) == pytest.approx(height)


def test_ticks_of_whole_numbers_are_whole():
    assert [text for text, _ in _Column(SPACE[1], []).ticks()] == ["1", "4", "6", "9", "12"]
    assert [text for text, _ in _Column(Parameter("x", 1, 3, is_integer=True), []).ticks()] == ["1", "2", "3"]
