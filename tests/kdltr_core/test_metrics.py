"""Evaluation rules, as tables of (prediction, truth, expected)."""

import pytest

from kdltr_core.metrics import (
    character_error_rate,
    is_correct,
    mcnemar,
    ned_similarity,
    standard_error,
    word_accuracy,
)


@pytest.mark.parametrize(
    ("prediction", "truth", "under_36", "under_62", "under_94"),
    [
        ("cafe", "cafe", True, True, True),
        ("CAFE", "cafe", True, False, False),  # case
        ("St.", "St", True, True, False),  # punctuation
        ("st", "St.", True, False, False),  # both
        ("caf3", "cafe", False, False, False),  # a wrong character
        ("caf", "cafe", False, False, False),  # a missing one
        ("cafee", "cafe", False, False, False),  # one too many
        ("dont", "don't", True, True, False),
        ("", "!!", True, True, False),  # nothing is left on either side
        ("", "a", False, False, False),
        ("cafe", "café", True, True, True),  # in basic letters
        ("caf", "cafя", True, True, True),  # я is in no protocol
        ("a b", "ab", True, True, True),  # spaces never count
    ],
)
def test_a_word_is_right_when_the_folded_texts_are_equal(prediction, truth, under_36, under_62, under_94):
    assert [is_correct(prediction, truth, p) for p in ("36", "62", "94")] == [under_36, under_62, under_94]
    assert [is_correct(truth, prediction, p) for p in ("36", "62", "94")] == [under_36, under_62, under_94]


def test_word_accuracy_is_the_share_of_right_words():
    assert word_accuracy(["a", "B", "x", "d!"], ["a", "b", "c", "d"]) == 3 / 4
    assert word_accuracy(["a", "B", "x", "d!"], ["a", "b", "c", "d"], "62") == 2 / 4
    assert word_accuracy(["a", "B", "x", "d!"], ["a", "b", "c", "d"], "94") == 1 / 4


@pytest.mark.parametrize(
    ("predictions", "truths", "protocol", "expected"),
    [
        (["kitten"], ["sitting"], "36", 1 - 3 / 7),
        (["KITTEN!"], ["sitting"], "36", 1 - 3 / 7),
        (["KITTEN"], ["kitten"], "62", 0.0),
        (["ab", "x"], ["ab", "abcd"], "36", 1 - (0 + 4 / 4) / 2),  # mean over words, not over characters
        (["abcd"], ["ab"], "36", 0.5),  # divided by the longer of the two
        (["!"], ["?"], "36", 1.0),  # two empty words are equal
        ([""], ["a"], "36", 0.0),
    ],
)
def test_ned_similarity_is_one_less_the_mean_distance_over_the_longer_length(predictions, truths, protocol, expected):
    assert ned_similarity(predictions, truths, protocol) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(
    ("predictions", "truths", "protocol", "expected"),
    [
        (["kitten"], ["sitting"], "36", 3 / 7),
        (["ab", "x"], ["ab", "abcd"], "36", 4 / 6),  # over characters, not over words
        (["abcd"], ["ab"], "36", 1.0),  # divided by the truth's length
        (["abcde"], ["ab"], "36", 1.5),
        (["Don't"], ["don't"], "94", 1 / 5),
        (["Don't"], ["dont"], "36", 0.0),
    ],
)
def test_character_error_rate_is_all_distances_over_all_truth(predictions, truths, protocol, expected):
    assert character_error_rate(predictions, truths, protocol) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("metric", [word_accuracy, ned_similarity, character_error_rate])
def test_no_words_and_uneven_lists_are_refused(metric):
    with pytest.raises(ValueError, match="empty"):
        metric([], [])
    with pytest.raises(ValueError, match="2 predictions for 1 labels"):
        metric(["a", "b"], ["a"])


def test_character_error_rate_without_characters_is_refused():
    with pytest.raises(ValueError, match="no character of the 1 labels counts under protocol '36'"):
        character_error_rate(["a"], ["!!"])


@pytest.mark.parametrize(
    ("accuracy", "count", "expected"), [(0.5, 100, 0.05), (0.0, 7, 0.0), (1.0, 7, 0.0), (0.2, 4, 0.2)]
)
def test_standard_error_of_a_share(accuracy, count, expected):
    assert standard_error(accuracy, count) == pytest.approx(expected, abs=1e-12)


def test_a_standard_error_without_words_is_refused():
    with pytest.raises(ValueError, match="at least one word, not 0"):
        standard_error(0.5, 0)


def _discordant(b, c, both=3, neither=2):
    first = [True] * b + [False] * c + [True] * both + [False] * neither
    second = [False] * b + [True] * c + [True] * both + [False] * neither
    return first, second


@pytest.mark.parametrize(
    ("b", "c", "p"),
    [
        (0, 0, 1.0),
        (1, 0, 1.0),
        (5, 0, 2 / 32),
        (0, 5, 2 / 32),
        (3, 3, 1.0),  # the two tails overlap: never above 1
        (8, 2, 2 * (1 + 10 + 45) / 1024),
        (1100, 0, 2.0**-1099),  # below what a float holds on one tail alone
    ],
)
def test_mcnemar_is_twice_the_binomial_tail(b, c, p):
    result = mcnemar(*_discordant(b, c))
    assert (result.only_first, result.only_second) == (b, c)
    assert result.p == pytest.approx(p, rel=1e-12)


def test_mcnemar_refuses_lists_of_other_words():
    with pytest.raises(ValueError, match="not 1 and 2"):
        mcnemar([True], [True, False])
