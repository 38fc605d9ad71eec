"""What the page of a sweep says, what its pictures show, what mattered, and which point is used."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from kdltr_core.evaluation.significance import Gain, SignificanceTest, compare_paired
from pipelines.sweep.report import (
    FEWEST_TRIALS,
    Importance,
    best_first,
    choose,
    counted_study,
    draw_pictures,
    importances,
    short,
    summary_metrics,
    sweep_markdown,
)
from pipelines.sweep.study import State, SweepTrial

SOFT = "objective.soft_logits"
SPACE: dict[str, dict[str, Any]] = {
    SOFT: {"low": 2.0, "high": 200.0, "log": True, "is_integer": False},
    "objective.num_paths": {"low": 1, "high": 12, "log": False, "is_integer": True},
    "optim.schedule": {"choices": ("step", "cosine", "constant")},
}
OWN = {SOFT: 20.0, "objective.num_paths": 6, "optim.schedule": "step"}


def trial(number: int, accuracy: float | None, state: State = "FINISHED", error: str = "", **point: Any) -> SweepTrial:
    params = {**OWN, SOFT: 20.0 + number, **point}
    return SweepTrial(number, Path(f"{number:04d}"), params, state, accuracy, error, is_baseline=params == OWN)


def sweep(
    num: int, accuracy: Callable[[dict[str, Any]], float], seed: int = 0, state: State = "FINISHED"
) -> list[SweepTrial]:
    """Trials at random points, with noise of 0.1 points."""
    draw = np.random.default_rng(seed)
    trials = []
    for number in range(num):
        point: dict[str, Any] = {SOFT: float(20 * 10 ** draw.uniform(-1, 1))}
        point |= {"objective.num_paths": int(draw.integers(1, 13))}
        point |= {"optim.schedule": ("step", "cosine", "constant")[draw.integers(3)]}
        trials.append(trial(number, float(accuracy(point) + draw.normal(0, 0.1)), state, **point))
    return trials


def found(trials: Sequence[SweepTrial], num_shuffles: int = 40) -> tuple[Importance, ...]:
    return importances(counted_study(trials, SPACE), num_shuffles)


def cells(text: str) -> list[list[str]]:
    """Of every line of a table, stripped."""
    return [[c.strip() for c in line.strip("|").split("|")] for line in text.splitlines() if line.startswith("|")]


def page(trials: Sequence[SweepTrial], mattered: Sequence[Importance] = (), **fields: Any) -> str:
    return sweep_markdown("loss_weights", trials, SPACE, mattered, 100, **fields)


def test_trials_are_ranked_with_their_values_and_the_baseline_is_never_left_out() -> None:
    trials = [trial(number, 50.0 + number) for number in range(12)]
    rows = cells(page(trials))[2:13]
    assert rows[0] == ["11", "61.00", "31", "6", "step"]
    assert [row[0] for row in rows[1:]] == [*map(str, range(10, 1, -1)), "0 (baseline)"]
    assert "1 more ran to their end." in page(trials)


def test_only_trials_that_ran_to_their_end_are_ranked_and_the_earlier_of_equals_is_first() -> None:
    trials = [trial(0, 50.0), trial(1, 90.0, "PRUNED"), trial(2, 60.0), trial(3, 95.0, "FAILED"), trial(4, 60.0)]
    assert [t.number for t in best_first(trials)] == [2, 4, 0]


def test_the_note_counts_the_trials_within_one_standard_error_of_the_best() -> None:
    """Of 100 words read at 50 %: sqrt(0.5 * 0.5 / 100) = 5 points."""
    text = page([trial(i, accuracy) for i, accuracy in enumerate((50.0, 47.0, 45.0, 44.9, 30.0))])
    assert "Trial 0 reads 50.00 % of 100 validation words; one standard error there is 5.00 points, and 2 of" in text
    assert "one standard error there is 5.00 points.\n" in page([trial(0, 50.0)])


def test_states_are_counted_and_the_same_errors_are_told_once() -> None:
    lost = [trial(number, None, "FAILED", "RuntimeError: out of memory") for number in (2, 3)]
    text = page([trial(0, 50.0), trial(1, 40.0, "PRUNED"), *lost])
    assert "4 trials: 1 finished, 1 pruned, 2 failed. Trial 0 reads" in text
    assert text.endswith("## Failed\n\n- 2 trials: RuntimeError: out of memory\n")


def test_the_answer_stands_first_and_its_table_has_the_accuracies_by_seed() -> None:
    base = np.tile(np.arange(400) % 2 == 0, (3, 1))
    better = base.copy()
    better[:, 1:80:2] = True
    test = compare_paired(base, {"trial 1": better}, name="the baseline")
    text = page([trial(0, 50.0), trial(1, 52.0)], test=test)
    assert text.splitlines()[2] == f"**{test.sentence}**"
    assert cells(text)[2] == ["the baseline", "50.00 50.00 50.00", "", ""]
    assert cells(text)[3][:3] == ["trial 1", "60.00 60.00 60.00", "+10.00"]
    alone = compare_paired(base[:1], {"trial 1": better[:1]}, name="the baseline")
    assert "One seed: the intervals allow for words only." in page([trial(0, 50.0)], test=alone)


def test_space_and_importances_are_tables() -> None:
    text = page([trial(0, 50.0)], [Importance(SOFT, 0.8, 0.6, True), Importance("optim.schedule", 0.2, 0.31, False)])
    for row in (
        [SOFT, "2 … 200, log scale"],
        ["objective.num_paths", "1 … 12, whole numbers"],
        ["optim.schedule", "one of step, cosine, constant"],
        [SOFT, "80", "60", "yes"],
        ["optim.schedule", "20", "31", "no"],
    ):
        assert row in cells(text)


@pytest.mark.parametrize("trials", [[], [trial(0, None, "FAILED", "x")], [trial(0, 40.0, "PRUNED")]])
def test_a_sweep_without_a_finished_trial_has_a_page_too(trials: list[SweepTrial]) -> None:
    assert "No trial ran to its end." in page(trials)
    assert "Too few trials" in page(trials)


@pytest.mark.parametrize(("value", "shown"), [(0.000123456, "0.0001235"), (7, "7"), (False, "False"), ("", "(empty)")])
def test_a_value_is_short_and_never_invisible(value: Any, shown: str) -> None:
    assert short(value) == shown


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
        ("objective.num_paths", lambda p: 50 + 0.5 * p["objective.num_paths"]),
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
    assert found(sweep(FEWEST_TRIALS - 1, lambda p: p["objective.num_paths"])) == ()
    assert len(found(sweep(FEWEST_TRIALS, lambda p: p["objective.num_paths"]), 5)) == len(SPACE)
    assert found([trial(number, 50.0) for number in range(20)]) == ()
    assert found([trial(number, None, "PRUNED") for number in range(20)]) == ()


def outcome(*gains: Gain, is_better: bool | None = False) -> SignificanceTest:
    return SignificanceTest("the baseline", {"the baseline": (70.0, 71.0)}, gains, 500, 0.95, is_better)


@pytest.mark.parametrize(
    ("is_better", "soft_logits", "why"),
    [
        (True, 21.0, "that of trial 1, which was confirmed."),
        (False, 20.0, "the baseline: trial 1 was not shown to be better."),
        (None, 20.0, "the baseline: trial 1 was not shown to be better."),  # one seed leaves it open
    ],
)
def test_after_a_confirmation_another_point_is_used_only_if_it_is_better_than_chance(
    is_better: bool | None, soft_logits: float, why: str
) -> None:
    """Whatever the validation split said: trial 2 was the best on it."""
    test = outcome(Gain("trial 1", 2.1, 0.4, 3.2), Gain("trial 2", 0.4, -0.7, 1.5), is_better=is_better)
    choice = choose([trial(0, 70.0), trial(1, 71.0), trial(2, 72.0)], OWN, test)
    assert choice is not None
    assert (choice.point[SOFT], choice.sentence) == (soft_logits, f"The point in best.yaml is {why}")


def test_a_baseline_that_was_not_tried_to_its_end_is_kept_all_the_same() -> None:
    """A sweep may stop it early, and the confirmation trains it anew."""
    choice = choose([trial(3, 70.0)], OWN, outcome(Gain("trial 3", 0.1, -1, 1)))
    assert choice is not None
    assert choice.point == OWN
    assert choose([trial(3, 70.0, "PRUNED")], OWN, None) is None


def test_the_sweep_s_own_figures() -> None:
    assert summary_metrics([trial(0, 70.0), trial(1, 72.0)], outcome(Gain("trial 1", 0.1, -1, 1))) == {
        "sweep/num_finished": 2,
        "sweep/num_pruned": 0,
        "sweep/num_failed": 0,
        "sweep/best_word_accuracy": 72.0,
        "sweep/baseline_word_accuracy": 70.0,
        "confirmation/gain": 0.1,
        "confirmation/low": -1,
        "confirmation/high": 1,
    }
