"""Whether a reader is as often right as it says."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

NUM_BINS = 10


@dataclass(frozen=True)
class Bin:
    """Words whose confidence is in one tenth of [0, 1]; means in [0, 1]."""

    confidence: float
    accuracy: float
    count: int


@dataclass(frozen=True)
class Calibration:
    """A reliability diagram; bins without words are left out.

    Attributes:
        error: expected calibration error, in [0, 1].
        confidence: mean of all words.
    """

    bins: tuple[Bin, ...]
    error: float
    confidence: float


def calibrate(confidences: Sequence[float], correct: np.ndarray) -> Calibration:
    """Expected calibration error with equal bins (Guo et al. 2017, eq. 3): sum over bins of n_b / n |acc_b - conf_b|.

    Args:
        confidences: N, in [0, 1].
        correct: (N,) bool.

    Raises: ValueError if there are no words, or not as many of both.
    """
    values = np.asarray(confidences, float)
    if not len(values) or values.shape != correct.shape:
        raise ValueError(f"{len(values)} confidences of {len(correct)} words; expected one a word, and words")
    # The border between two bins belongs to the lower, as in the paper: (0, 0.1], (0.1, 0.2], …
    places = np.clip(np.ceil(values * NUM_BINS).astype(int) - 1, 0, NUM_BINS - 1)
    bins = tuple(
        Bin(float(values[here].mean()), float(correct[here].mean()), int(here.sum()))
        for here in (places == place for place in range(NUM_BINS))
        if here.any()
    )
    error = sum(b.count * abs(b.accuracy - b.confidence) for b in bins) / len(values)
    return Calibration(bins, error, float(values.mean()))
