"""Intervals for the gains of several points over one, all read with the same seeds on the same words."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def half_widths(baseline: NDArray[np.bool_], candidates: Sequence[NDArray[np.bool_]], level: float) -> list[float]:
    """Half the interval of each candidate's mean gain, as a share; all of them hold at once with the level.

    The difference in word w of seed i is d[i, w] = candidate - baseline, in {-1, 0, 1}: a mean gain, plus an effect of
    the seed, of the word, and of both. Seeds and words are both samples; the question is about others of their kind.
    The variance of the mean of S x M such differences is (MS_seed + max(MS_word - MS_both, 0)) / (S M), with the mean
    squares of a two-way table, as readers and cases have it in multi-reader studies (Obuchowski and Rockette 1995).
    The interval is that of Student's t, with df (MS_seed + max(MS_word - MS_both, 0))^2 / (MS_seed^2 / df_seed)
    (Hillis 2007, after Satterthwaite 1946): near df_seed, and wide, where the seeds differ more than the words
    explain, and near the normal where they do not.

    Few seeds make MS_seed a poor estimate. So it is pooled over all points, as in a randomised block design with the
    seeds as blocks: df_seed = (number of candidates) x (S - 1). This takes the points to scatter alike over seeds. For
    a candidate that scatters more, its own mean square is taken; one that fails with some seed widens the intervals
    of all. MS_seed is never below MS_both, its expectation where seeds do not matter. The intervals of k candidates
    are Bonferroni's, each at 1 - (1 - level) / k.

    With one seed there is no MS_seed: the interval is Student's over words alone.

    Args:
        baseline: (S, M), whether word w is read correctly with seed i; two words at least.
        candidates: the same of each.
        level: in (0, 1).
    """
    num_seeds, num_words = baseline.shape
    pooled = num_words * _seed_variance(np.array([values.mean(axis=1) for values in (baseline, *candidates)]))
    df_seed = len(candidates) * (num_seeds - 1)
    one_level = 1 - (1 - level) / len(candidates)
    return [_half_width(c.astype(float) - baseline, pooled, df_seed, one_level) for c in candidates]


def student_t(level: float, df: float) -> float:
    """The t with P(|T| <= t) = level, for df >= 1.

    With T = sqrt(df) tan(a) the density of the angle a is proportional to cos(a)^(df - 1), which is summed up here.
    """
    df = min(df, 1e4)  # beyond which t is the normal's to four digits
    angle = np.linspace(0, math.pi / 2, 20_001)
    density = np.cos(angle) ** (df - 1)
    share = np.concatenate([[0], np.cumsum(density[1:] + density[:-1])])
    return math.sqrt(df) * math.tan(np.interp(level, share / share[-1], angle))


def _half_width(difference: NDArray[np.float64], pooled: float, df_seed: int, level: float) -> float:
    """Half the interval of the mean of (S, M) differences."""
    num_seeds, num_words = difference.shape
    mean, by_word = difference.mean(), difference.mean(axis=0)
    ms_word = num_seeds * ((by_word - mean) ** 2).sum() / (num_words - 1)
    if num_seeds == 1:
        return student_t(level, num_words - 1) * math.sqrt(ms_word / num_words)
    by_seed = difference.mean(axis=1)
    both = difference - by_seed[:, None] - by_word + mean
    ms_both = (both**2).sum() / ((num_seeds - 1) * (num_words - 1))
    own = num_words * by_seed.var(ddof=1)
    ms_seed = max(own, pooled, ms_both)
    total = ms_seed + max(ms_word - ms_both, 0.0)
    df = total**2 / (ms_seed**2 / df_seed) if ms_seed > 0 else math.inf
    return student_t(level, df) * math.sqrt(total / (num_seeds * num_words))


def _seed_variance(accuracies: NDArray[np.float64]) -> float:
    """Of the difference of two points, over seeds: twice the residual of (points, seeds) without both main effects."""
    num_points, num_seeds = accuracies.shape
    if num_seeds == 1:
        return math.nan
    residual = accuracies - accuracies.mean(axis=1, keepdims=True) - accuracies.mean(axis=0) + accuracies.mean()
    return float(2 * (residual**2).sum() / ((num_points - 1) * (num_seeds - 1)))
