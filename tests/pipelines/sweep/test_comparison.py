"""The table of a comparison: means and errors over seeds, tests against the reference, and who is left out."""

from __future__ import annotations

import numpy as np
import pytest

from pipelines.sweep.comparison import CandidateComparison
from pipelines.sweep.page import Section

SETS = ("easy",) * 6 + ("hard",) * 4


def students(*rows: str) -> np.ndarray:
    """(seeds, words) from rows such as "11110"; 1 is a word read correctly."""
    return np.array([[sign == "1" for sign in row] for row in rows])


@pytest.fixture
def three() -> CandidateComparison:
    found = {
        "supervised": students("1111100000", "1111110000"),
        "dld": students("1111101110", "1111110110"),
    }
    return CandidateComparison(found, "supervised", (0, 4), SETS, ("unified",))


def cells(sections: list[Section], name: str) -> list[list[str]]:
    """The cells of every row that begins with this name."""
    return [list(row[1:]) for section in sections for row in section.rows if row[0] == name]


def test_the_table_shows_all_of_it_and_says_who_is_left_out(three: CandidateComparison) -> None:
    """50 and 60 %: mean 55, deviation 10 / √2, error of the mean 10 / 2 = 5."""
    page = three.sections("Objectives")
    assert "10 words, 2 seeds (0, 4)" in page[0].text
    whole, by_set = cells(page, "dld")
    assert whole[:3] == ["80.00 ± 0.00", "80.00 80.00", "+25.00"]
    assert by_set == [f"{100 * 11 / 12:.2f}", f"{100 * 5 / 8:.2f}"]
    whole, by_set = cells(page, "supervised")
    assert whole == ["55.00 ± 5.00", "50.00 60.00", "", ""]
    assert by_set == [f"{100 * 11 / 12:.2f}", "0.00"]
    assert cells(page, "unified") == []
    assert page[0].text.endswith("not every seed came to its end: unified.")


def test_one_seed_has_no_error() -> None:
    found = {"a": students("1100"), "b": students("1110")}
    one = CandidateComparison(found, "a", (3,), ("s",) * 4)
    assert one.metrics() == pytest.approx(
        {
            "comparison/a/word_accuracy": 50.0,
            "comparison/b/word_accuracy": 75.0,
            "comparison/b/gain": 25.0,
            "comparison/b/gain_low": one.significance.gains[0].low,  # type: ignore[union-attr]
            "comparison/b/gain_high": one.significance.gains[0].high,  # type: ignore[union-attr]
        }
    )
    page = one.sections("One")
    assert not any("±" in cell for row in page[0].rows for cell in row)
    assert "other words alone" in page[0].text


def test_what_is_not_there_yet_is_not_tested_against() -> None:
    """Neither before anything has ended, nor without the reference."""
    (section,) = CandidateComparison({}, "a", (0,), (), ("a", "b")).sections("Early")
    assert "None has all its seeds yet" in section.text
    assert not section.rows
    lone = CandidateComparison({"b": students("1110", "1111")}, "a", (0, 1), ("s",) * 4, ("a",))
    assert lone.significance is None
    assert cells(lone.sections("Lone"), "b")[0][0] == "87.50 ± 12.50"


def test_a_single_word_is_shown_and_not_tested() -> None:
    """It shows no scatter between words, and the report is written all the same."""
    one = CandidateComparison({"a": students("0", "1"), "b": students("1", "1")}, "a", (0, 1), ("s",))
    assert one.metrics() == {"comparison/a/word_accuracy": 50.0, "comparison/b/word_accuracy": 100.0}
    assert cells(one.sections("One word"), "b")[0][0] == "100.00 ± 0.00"
