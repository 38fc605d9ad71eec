"""What the page of a sweep says, by what it knows."""

import numpy as np

from kdltr_core.evaluation.significance import compare_paired
from pipelines.sweep.report import sweep_markdown
from pipelines.sweep.sweep import Importance, Parameter, Trial

SPACE = [Parameter("objective.soft_logits", 2, 200, log=True), Parameter("optim.schedule", choices=("step", "cosine"))]


def trial(number, value, state="FINISHED", **fields):
    return Trial(number, {"objective.soft_logits": 20.0 + number, "optim.schedule": "step"}, value, state, **fields)


def rows(text):
    """Cells of every line of a table, stripped."""
    return [[c.strip() for c in line.strip("|").split("|")] for line in text.splitlines() if line.startswith("|")]


def page(trials, importances=(), **fields):
    return sweep_markdown("loss_weights", trials, SPACE, importances, num_words=400, **fields)


def test_trials_are_ranked_with_their_values_and_the_published_point_is_never_left_out():
    trials = [trial(0, 50.0, is_published=True), trial(1, 52.0), trial(2, 51.0), trial(3, 53.0), trial(4, 49.0)]
    assert rows(page(trials, num_shown=2))[2:5] == [
        ["3", "53.00", "23", "step"],
        ["1", "52.00", "21", "step"],
        ["0 (published)", "50.00", "20", "step"],
    ]
    assert "2 more ran to their end." in page(trials, num_shown=2)
    assert "more ran to their end" not in page(trials)


def test_states_are_counted_and_the_same_errors_are_told_once():
    trials = [
        trial(0, 50.0),
        trial(1, 40.0, "PRUNED"),
        trial(2, None, "FAILED", error="RuntimeError: out of memory\n  at line 3"),
        trial(3, None, "FAILED", error="RuntimeError: out of memory\n  at line 4"),
        trial(4, None, "FAILED"),
    ]
    text = page(trials)
    assert "5 trials: 1 finished, 1 pruned, 3 failed. Trial 0 reads 50.00 % of 400 validation words" in text
    assert text.endswith("## Failed\n\n- 2 trials: RuntimeError: out of memory\n- 1 trial: without a word\n")
    assert "## Failed" not in page(trials[:2])


def test_the_verdict_stands_first_and_its_table_has_the_accuracies_by_seed():
    base = np.tile(np.arange(400) % 2 == 0, (3, 1))
    better = base.copy()
    better[:, 1:80:2] = True
    verdict = compare_paired(base, {"trial 1": better})
    text = page([trial(0, 50.0, is_published=True), trial(1, 52.0)], verdict=verdict)
    assert text.splitlines()[2] == f"**{verdict.sentence}**"
    assert rows(text)[2] == ["the baseline", "50.00 50.00 50.00", "", ""]
    assert rows(text)[3][:3] == ["trial 1", "60.00 60.00 60.00", "+10.00"]
    assert "Confirmation" not in page([trial(0, 50.0)])
    alone = compare_paired(base[:1], {"trial 1": better[:1]})
    assert "One seed: the intervals allow for words only." in page([trial(0, 50.0)], verdict=alone)


def test_space_and_importances_are_tables():
    found = [Importance(SPACE[0].name, 0.8, 0.6, True), Importance(SPACE[1].name, 0.2, 0.31, False)]
    text = page([trial(0, 50.0)], found)
    for row in (
        ["objective.soft_logits", "2 … 200, log scale"],
        ["optim.schedule", "one of step, cosine"],
        ["objective.soft_logits", "80", "60", "yes"],
        ["optim.schedule", "20", "31", "no"],
    ):
        assert row in rows(text)


def test_a_sweep_without_a_finished_trial_has_a_page_too():
    for trials in ([], [trial(0, None, "FAILED", error="x")]):
        text = page(trials)
        assert "No trial ran to its end." in text
        assert "Too few trials" in text
