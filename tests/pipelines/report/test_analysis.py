"""Analysis of predictions, against alignments by hand, closed forms, and definitions written out word by word."""

import random

import numpy as np
import pytest
from rapidfuzz.distance import Levenshtein

from pipelines.report.analysis import (
    count_confusions,
    differences,
    group_by_size,
)


@pytest.mark.parametrize(
    ("truth", "read", "expected"),
    [
        ("open", "open", []),
        ("open", "0pen", [("o", "0")]),
        ("corner", "comer", [("rn", "m")]),
        ("modem", "modern", [("m", "rn")]),
        ("close", "dose", [("cl", "d")]),
        ("oil", "011", [("o", "0"), ("i", "1"), ("l", "1")]),  # as many on both sides: one each
        ("stop", "sto", [("p", "")]),
        ("stop", "stops", [("", "s")]),
        ("taxi", "maxl", [("t", "m"), ("i", "l")]),
        ("", "a", [("", "a")]),
        ("arnica", "amica", [("rn", "m")]),
        ("barn", "bam", [("rn", "m")]),
    ],
)
def test_words_differ_where_a_person_would_say(truth, read, expected):
    assert differences(truth, read) == expected


def test_differences_cost_what_the_edit_distance_says():
    rng = random.Random(0)
    for _ in range(300):
        truth, read = ("".join(rng.choices("abc", k=rng.randint(0, 7))) for _ in range(2))
        assert sum(max(map(len, pair)) for pair in differences(truth, read)) == Levenshtein.distance(truth, read)


def test_confusions_are_counted_over_misread_words_as_the_protocol_folds_them():
    words = [("OPEN", "0pen"), ("open", "0pen"), ("corner", "comer"), ("Cafe", "cafe"), ("don't", "dont")]
    found = count_confusions(words)
    assert found.counts == {("o", "0"): 2, ("rn", "m"): 1}
    assert (found.num_near, found.num_far) == (3, 0)


def test_a_prediction_with_little_in_common_says_nothing_of_single_characters():
    found = count_confusions([("station", "xyz"), ("taxi", "maxl")])
    # Half of taxi is wrong, which is not more than half.
    assert (found.num_near, found.num_far) == (1, 1)
    assert found.counts == {("t", "m"): 1, ("i", "l"): 1}


def test_groups_hold_the_words_from_their_start_to_the_next():
    groups = group_by_size([1, 2, 3, 4, 9, 12], np.array([1, 1, 0, 1, 0, 1], bool), (1, 2, 4, 10))
    assert [(g.label, g.count, g.accuracy) for g in groups] == [
        ("1", 1, 1.0),
        ("2–3", 2, 0.5),
        ("4–9", 2, 0.5),
        ("≥ 10", 1, 1.0),
    ]
    # sqrt(p (1 - p) / n)
    assert groups[1].error == pytest.approx((0.25 / 2) ** 0.5)


def test_empty_groups_and_words_below_the_first_start_are_left_out():
    groups = group_by_size([0, 5], np.array([True, True]), (1, 4, 8))
    assert [(g.label, g.count) for g in groups] == [("4–7", 1)]
