"""What the page of a sweep says, and which point is used."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from kdltr_core.evaluation.significance import Gain, SignificanceTest
from pipelines.sweep.page import Page, Section
from pipelines.sweep.report import choose, counts_note, summary_metrics, trial_sections
from pipelines.sweep.study import SweepTrial, best_first
from tests.pipelines.sweep.trials import OWN, SOFT, SPACE
from tests.pipelines.sweep.trials import ended_trial as trial


def section(title: str, trials: Sequence[SweepTrial]) -> Section:
    (found,) = (section for section in trial_sections(trials, SPACE.describe()) if section.title == title)
    return found


def test_trials_are_ranked_with_their_values_and_the_baseline_is_never_left_out() -> None:
    unfinished = [trial(12, 90.0, "PRUNED"), trial(13, 95.0, "FAILED")]
    found = section("Best trials", [*(trial(number, 50.0 + number) for number in range(12)), *unfinished])
    assert [t.number for t in best_first([trial(2, 60.0), trial(4, 60.0), *unfinished])] == [2, 4]
    assert found.rows[1] == ["11", "61.00", "31", "6", "step"]
    assert [row[0] for row in found.rows[2:]] == [*map(str, range(10, 1, -1)), "0 (baseline)"]
    assert "1 more ran to their end." in found.text


def test_the_note_has_the_standard_error_of_the_best() -> None:
    """Of 100 words read at 50 %: sqrt(0.5 * 0.5 / 100) = 5 points."""
    note = counts_note([trial(i, accuracy) for i, accuracy in enumerate((50.0, 47.0))], 100)
    assert "Trial 0 reads 50.00 % of 100 validation words; one standard error there is 5.00 points:" in note


def test_states_are_counted_and_the_same_errors_are_told_once() -> None:
    lost = [trial(number, None, "FAILED", "RuntimeError: out of memory") for number in (2, 3)]
    trials = [trial(0, 50.0), trial(1, 40.0, "PRUNED"), *lost]
    assert counts_note(trials, 100).startswith("4 trials: 1 finished, 1 pruned, 2 failed. Trial 0 reads")
    assert section("Failed", trials).rows[1:] == [["RuntimeError: out of memory", "2"]]


@pytest.mark.parametrize("trials", [[], [trial(0, None, "FAILED", "x")], [trial(0, 40.0, "PRUNED")]])
def test_a_sweep_without_a_finished_trial_has_a_page_too(trials: list[SweepTrial]) -> None:
    assert "No trial ran to its end." in counts_note(trials, 100)
    assert section("Best trials", trials).text == "No trial ran to its end."


def test_a_page_is_one_html_file_and_a_text_with_the_same_tables(tmp_path: Path) -> None:
    """What a user named is escaped, and no picture is fetched."""
    (tmp_path / "p.png").write_bytes(b"picture")
    table = Section("Best", [["trial", "accuracy"], ["<b>", "71.00"]], "Of two.", [tmp_path / "p.png"])
    page = Page("Sweep a&b", ["No."], [table, Section("Failed")])
    page.write(tmp_path / "sweep.html")
    html = (tmp_path / "sweep.html").read_text()
    for part in ("Sweep a&amp;b", "<p>No.</p>", "&lt;b&gt;", "71.00", "Of two.", "data:image/png;base64,cGljdHVyZQ=="):
        assert part in html
    assert "Failed" not in html
    for part in ("# Sweep a&b", "No.", "## Best", "71.00 |", "Of two."):
        assert part in page.text


def outcome(*gains: Gain, is_better: bool | None = False) -> SignificanceTest:
    return SignificanceTest("the baseline", {"the baseline": (70.0, 71.0)}, gains, 500, is_better)


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
    point, sentence = choose([trial(0, 70.0), trial(1, 71.0), trial(2, 72.0)], OWN, test)
    assert (point[SOFT], sentence) == (soft_logits, f"The point in best.yaml is {why}")


def test_a_baseline_that_was_not_tried_to_its_end_is_kept_all_the_same() -> None:
    """A sweep may stop it early, and the confirmation trains it anew."""
    assert choose([trial(3, 70.0)], OWN, outcome(Gain("trial 3", 0.1, -1, 1)))[0] == OWN
    assert choose([trial(3, 70.0, "PRUNED")], OWN, None) == ({}, "")


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
