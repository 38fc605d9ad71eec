"""What a trial and a parameter may be, which trial is best, and how sure that is."""

import pytest

from pipelines.sweep.sweep import Importance, Parameter, Trial, finished, noise_note, short


def test_a_trial_has_a_known_state_and_an_accuracy_in_per_cent():
    with pytest.raises(ValueError, match="trial 3 is 'TERMINATED', expected one of FINISHED, PRUNED, FAILED"):
        Trial(3, {}, 50.0, "TERMINATED")
    with pytest.raises(ValueError, match="trial 3 is FINISHED without an accuracy"):
        Trial(3, {}, None, "FINISHED")
    for value in (-0.1, 100.1, float("nan")):
        with pytest.raises(ValueError, match="expected per cent, 0 … 100"):
            Trial(3, {}, value, "FINISHED")


def test_a_stopped_trial_has_the_best_accuracy_that_was_read_of_it():
    assert Trial(0, {}, None, "PRUNED", [(10, 40.0), (20, 42.0), (30, 41.0)]).accuracy == 42.0
    assert Trial(0, {}, 41.5, "PRUNED", [(10, 40.0), (20, 42.0)]).accuracy == 41.5
    assert Trial(0, {}, None, "FAILED").accuracy is None


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({}, "needs a range from low to high, or choices"),
        ({"low": 1}, "needs a range"),
        ({"low": 1, "high": 2, "choices": ("a",)}, "and not both"),
        ({"low": 2, "high": 2}, "empty range, 2 … 2"),
        ({"low": 0, "high": 2, "log": True}, "log scale from 0; that needs a low above 0"),
    ],
)
def test_a_parameter_is_a_range_or_choices(fields, message):
    with pytest.raises(ValueError, match=message):
        Parameter("objective.soft_logits", **fields)


@pytest.mark.parametrize(
    ("parameter", "text"),
    [
        (Parameter("x", 0.0025, 0.25, log=True), "0.0025 … 0.25, log scale"),
        (Parameter("x", 1, 12, is_integer=True), "1 … 12, whole numbers"),
        (Parameter("x", choices=("step", 0.123456, True)), "one of step, 0.1235, True"),
    ],
)
def test_a_parameter_says_what_was_searched(parameter, text):
    assert parameter.to_text() == text


def test_only_trials_that_ran_to_their_end_are_ranked_and_the_earlier_of_equals_is_first():
    trials = [
        Trial(0, {}, 50.0, "FINISHED"),
        Trial(1, {}, 90.0, "PRUNED"),
        Trial(2, {}, 60.0, "FINISHED"),
        Trial(3, {}, 95.0, "FAILED"),
        Trial(4, {}, 60.0, "FINISHED"),
    ]
    assert [t.number for t in finished(trials)] == [2, 4, 0]


def test_the_note_counts_the_trials_within_one_standard_error_of_the_best():
    """Of 100 words read at 50 %: sqrt(0.5 * 0.5 / 100) = 5 points."""
    values = [50.0, 47.0, 45.0, 44.9, 30.0]
    note = noise_note([Trial(i, {}, v, "FINISHED") for i, v in enumerate(values)], num_words=100)
    assert note.startswith(
        "Trial 0 reads 50.00 % of 100 validation words; one standard error there is 5.00 points, "
        "and 2 of the 4 other finished trials are within that of it."
    )
    assert noise_note([Trial(0, {}, 50.0, "FINISHED")], num_words=100).endswith(
        "one standard error there is 5.00 points."
    )
    assert noise_note([Trial(0, {}, 50.0, "PRUNED")], num_words=100) == "No trial ran to its end."


@pytest.mark.parametrize(("share", "chance", "named"), [(1.2, 0.4, "share 1.2"), (0.5, 1.4, "chance 1.4")])
def test_an_importance_is_a_share_and_so_is_that_of_chance(share, chance, named):
    assert Importance("x", 1.0, 1.0, False).chance == 1
    with pytest.raises(ValueError, match=named):
        Importance("x", share, chance, False)


@pytest.mark.parametrize(("value", "shown"), [(0.000123456, "0.0001235"), (7, "7"), (False, "False"), ("", "(empty)")])
def test_a_value_is_short_and_never_invisible(value, shown):
    assert short(value) == shown
