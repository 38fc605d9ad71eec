"""Misread words: as often and in the ways that were asked for."""

from __future__ import annotations

import numpy as np
import pytest
from rapidfuzz.distance import Levenshtein

from kdltr_core.train.language import misspell


def readings(word: str, count: int) -> list[str]:
    rng = np.random.default_rng(0)
    return [misspell(word, rng) for _ in range(count)]


def test_three_readings_in_ten_are_wrong() -> None:
    """Fewer by those whose letter was replaced by itself: at most 1 in 26."""
    count = 20_000
    share = np.mean([reading != "parking" for reading in readings("parking", count)])
    error = 4 * np.sqrt(0.3 * 0.7 / count)
    assert 0.3 * (1 - 0.7 / 26) - error < share < 0.3 + error


def test_one_touched_place_is_replaced_preceded_or_left_out_as_often_as_said() -> None:
    """Of a word of four letters one place at most is touched, so that its length tells what happened."""
    lengths = np.array([len(reading) for reading in readings("taxi", 20_000)])
    touched = 0.3
    for length, share in ((5, 0.15), (3, 0.15), (4, None)):
        expected = touched * share if share else 1 - touched * 0.3
        assert np.mean(lengths == length) == pytest.approx(expected, abs=4 * np.sqrt(expected / len(lengths)))


@pytest.mark.parametrize(("word", "most"), [("abcdefghij", 3), ("abcde", 2), ("abcd", 1)])
def test_long_words_have_up_to_three_mistakes_and_short_ones_one(word: str, most: int) -> None:
    assert max(Levenshtein.distance(word, reading) for reading in readings(word, 2000)) == most


@pytest.mark.parametrize("word", ["a", "7", "2024", "ab12", "m25"])
def test_what_follows_no_spelling_stays(word: str) -> None:
    assert set(readings(word, 500)) == {word}


def test_a_reading_is_never_empty_nor_too_long() -> None:
    longest = "z" * 25
    lengths = {len(reading) for word in ("ab", longest) for reading in readings(word, 3000)}
    assert min(lengths) == 1
    assert max(lengths) == 25
