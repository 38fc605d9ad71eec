"""Confusions of characters, against alignments by hand and the edit distance."""

import random

import pytest
from rapidfuzz.distance import Levenshtein

from pipelines.report.analysis import count_confusions, differences


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
