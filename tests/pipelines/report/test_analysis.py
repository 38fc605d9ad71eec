"""Analysis of predictions, against alignments by hand, closed forms, and definitions written out word by word."""

import random

import numpy as np
import pytest
import torch
from rapidfuzz.distance import Levenshtein

from kdltr_core.recognizers.decoding import decode_predictions
from pipelines.report.analysis import (
    attended_words,
    count_confusions,
    differences,
    glow,
    group_by_size,
)
from tests.kdltr_core.small import CNN_FAMILIES, STUDENTS


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
    assert found.either_way("0", "o") == found.either_way("o", "0") == 2


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


def test_the_picture_glows_where_the_map_is_and_is_dark_elsewhere():
    grey = np.full((16, 64, 3), 120, np.uint8)
    attention = np.zeros((8, 32))
    attention[2, 20] = 0.5
    lit = glow(grey, attention.ravel()).astype(int)
    # Position (2, 20) of 8 x 32 covers rows 4 and 5, columns 40 and 41 of 16 x 64.
    redness = lit[:, :, 0] - lit[:, :, 2]
    assert np.unravel_index(redness.argmax(), redness.shape)[0] in (4, 5)
    assert np.unravel_index(redness.argmax(), redness.shape)[1] in (40, 41)
    assert (lit[10:, :30] < 120).all()


@pytest.mark.parametrize("name", CNN_FAMILIES)
def test_cnn_families_show_a_picture_for_each_character(name):
    torch.manual_seed(1)
    student = STUDENTS[name]().eval()
    images = torch.randint(0, 256, (3, 3, 16, 64), dtype=torch.uint8)
    words = attended_words(student, images)
    with torch.inference_mode():
        output = student(images.float() / 255)
    assert [w.text for w in words] == decode_predictions(output.logits, student.charset)
    assert any(w.text for w in words)
    for row, word in enumerate(words):
        assert len(word.steps) == len(word.text)
        for step, picture in enumerate(word.steps):
            expected = glow(images[row].numpy().transpose(1, 2, 0), output.attention[row, step].numpy())
            np.testing.assert_array_equal(picture, expected)


def test_parseq_has_no_attention_maps():
    assert attended_words(STUDENTS["parseq_tiny"](), torch.zeros(1, 3, 16, 64, dtype=torch.uint8)) == []
