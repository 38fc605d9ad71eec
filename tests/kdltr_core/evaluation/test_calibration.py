"""Calibration: the error of a reader's confidence, and the temperature that mends it."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from kdltr_core.evaluation.calibration import calibrate, fit_temperature


def test_a_reader_that_is_as_often_right_as_it_says_has_no_calibration_error():
    found = calibrate([0.75] * 4 + [0.25] * 4, np.array([1, 1, 1, 0, 1, 0, 0, 0], bool))
    assert found.error == pytest.approx(0)
    assert [(b.confidence, b.accuracy, b.count) for b in found.bins] == [(0.25, 0.25, 4), (0.75, 0.75, 4)]


def test_a_reader_that_is_always_confident_errs_by_what_it_reads_wrongly():
    found = calibrate([1.0] * 5, np.array([True, True, False, False, False]))
    assert (found.error, found.confidence) == (pytest.approx(0.6), 1.0)


def test_the_calibration_error_is_the_mean_gap_of_ten_bins_weighted_by_words():
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


def test_every_tenth_of_the_scale_is_a_bin_and_a_border_belongs_to_the_lower():
    found = calibrate([place / 20 for place in range(1, 21)], np.ones(20, bool))
    assert [b.count for b in found.bins] == [2] * 10
    assert [b.count for b in calibrate([0.0, 0.05], np.ones(2, bool)).bins] == [2]
    assert [b.confidence for b in found.bins] == pytest.approx([0.075 + place / 10 for place in range(10)])


@pytest.mark.parametrize(("factor", "num_words", "fitted"), [(2.5, 9000, pytest.approx(2.5, rel=0.05)), (1, 300, 1.0)])
def test_the_temperature_of_logits_that_were_multiplied_is_the_factor(factor, num_words, fitted):
    """Words whose true chance is the confidence of their logits, which are then made so much steeper."""
    generator = torch.Generator().manual_seed(0)
    words = [2 * torch.randn(1 + number % 3, 12, generator=generator) for number in range(num_words)]
    true = torch.stack([word.softmax(-1).amax(-1).prod() for word in words])
    correct = (torch.rand(len(words), generator=generator) < true).numpy()
    found = fit_temperature([factor * word for word in words], correct)
    assert found.value == fitted
    if factor > 1:
        assert found.after.error < 0.03 < found.before.error


def test_a_handful_of_words_sets_no_temperature():
    found = fit_temperature([torch.randn(2, 12)] * 10, np.ones(10, bool))
    assert found.value == 1.0
