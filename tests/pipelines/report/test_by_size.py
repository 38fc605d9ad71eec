"""Groups of words of like size."""

import numpy as np
import pytest

from pipelines.report.by_size import group_by


def test_groups_hold_the_words_from_their_start_to_the_next():
    groups = group_by([1, 2, 3, 4, 9, 12], np.array([1, 1, 0, 1, 0, 1], bool), (1, 2, 4, 10))
    assert [(g.label, g.count, g.accuracy) for g in groups] == [
        ("1", 1, 1.0),
        ("2–3", 2, 0.5),
        ("4–9", 2, 0.5),
        ("≥ 10", 1, 1.0),
    ]
    # sqrt(p (1 - p) / n)
    assert groups[1].error == pytest.approx((0.25 / 2) ** 0.5)


def test_empty_groups_and_words_below_the_first_start_are_left_out():
    groups = group_by([0, 5], np.array([True, True]), (1, 4, 8))
    assert [(g.label, g.count) for g in groups] == [("4–7", 1)]
