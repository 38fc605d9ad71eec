"""The expected calibration error: closed forms, and its definition written out word by word."""

import numpy as np
import pytest

from pipelines.report.calibration import calibrate


def test_a_reader_that_is_as_often_right_as_it_says_has_no_error():
    found = calibrate([0.75] * 4 + [0.25] * 4, np.array([1, 1, 1, 0, 1, 0, 0, 0], bool))
    assert found.error == pytest.approx(0)
    assert [(b.confidence, b.accuracy, b.count) for b in found.bins] == [(0.25, 0.25, 4), (0.75, 0.75, 4)]


def test_a_reader_that_is_always_sure_errs_by_what_it_reads_wrongly():
    found = calibrate([1.0] * 5, np.array([True, True, False, False, False]))
    assert found.error == pytest.approx(0.6)
    assert found.confidence == 1.0


def test_the_error_is_the_mean_gap_of_ten_bins_weighted_by_words():
    rng = np.random.default_rng(0)
    confidences = rng.random(500)
    correct = rng.random(500) < confidences**2
    total = 0.0
    for tenth in range(10):
        mine = [i for i in range(500) if tenth / 10 < confidences[i] <= (tenth + 1) / 10]
        if mine:
            right = sum(bool(correct[i]) for i in mine) / len(mine)
            total += len(mine) / 500 * abs(right - sum(confidences[i] for i in mine) / len(mine))
    assert calibrate(confidences.tolist(), correct).error == pytest.approx(total)


@pytest.mark.parametrize("edge", [0.0, 1.0])
def test_the_ends_of_the_scale_belong_to_a_bin(edge):
    assert sum(b.count for b in calibrate([edge, 0.5], np.array([True, False])).bins) == 2


def test_no_words_and_uneven_lists_are_refused():
    for confidences, correct in (([], []), ([0.5], [True, False])):
        with pytest.raises(ValueError, match="expected one a word"):
            calibrate(confidences, np.array(correct, bool))


def test_every_tenth_of_the_scale_is_a_bin_and_a_border_belongs_to_the_lower():
    found = calibrate([place / 20 for place in range(1, 21)], np.ones(20, bool))
    assert [b.count for b in found.bins] == [2] * 10
    assert [b.confidence for b in found.bins] == pytest.approx([0.075 + place / 10 for place in range(10)])
