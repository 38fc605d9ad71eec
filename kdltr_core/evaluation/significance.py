"""The significance test: whether a candidate trained with several seeds reads more words than the baseline."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import ArrayLike, NDArray
from scipy.special import stdtrit

from kdltr_core.evaluation.table import STUDENT_LOW_RES

# With which all the intervals of a confirmation hold at once.
LEVEL = 0.95


@dataclass(frozen=True)
class Gain:
    """What a candidate reads more than the baseline: a mean over seeds and words, and its interval, in points of %."""

    name: str
    points: float
    low: float
    high: float


@dataclass(frozen=True)
class SignificanceTest:
    """The outcome of a confirmation.

    Attributes:
        baseline: name of what is to be beaten.
        accuracies: of baseline and candidates by name, in % of all words, one a seed.
        gains: of the candidates, in the order given.
        num_words: read by every student.
        is_better: whether the winner's interval lies above zero; None where one seed leaves it open.
    """

    baseline: str
    accuracies: Mapping[str, tuple[float, ...]]
    gains: tuple[Gain, ...]
    num_words: int
    is_better: bool | None

    @property
    def winner(self) -> Gain:
        """The largest gain of those surely above zero; where none is, the largest."""
        return _winner(self.gains)

    @property
    def num_seeds(self) -> int:
        return len(self.accuracies[self.baseline])

    @property
    def sentence(self) -> str:
        """The outcome in plain words."""
        gain, base = self.winner, self.baseline
        several = f", corrected for {len(self.gains)} candidates" if len(self.gains) > 1 else ""
        interval = f"{100 * LEVEL:g} % interval {signed(gain.low)} … {signed(gain.high)}{several}"
        words = f"{self.num_words:,} words"
        if self.is_better is None:
            return (
                f"Undecided: the gain of {gain.name} over {base} is {signed(gain.points)} points on {words}, but one "
                f"seed cannot tell it from the scatter between seeds ({interval}, for the choice of words alone); "
                "confirm with three seeds or more."
            )
        basis = f"{self.num_seeds} seeds, {words}"
        if self.is_better:
            return (
                f"Yes: {gain.name} reads {gain.points:.2f} points more than {base} ({interval}; {basis}), "
                f"which is more than chance gives; use {gain.name}."
            )
        return (
            f"No: the gain of {gain.name} over {base} is {signed(gain.points)} points, {interval} ({basis}), "
            f"which {'includes' if gain.high >= 0 else 'lies below'} zero; keep {base}."
        )


def read_judged(file: str | Path, column: str = STUDENT_LOW_RES.key) -> pa.Table:
    """The judged words of a ``predictions.parquet``: "set", "key", and "correct" by the column of that key.

    Raises: ValueError if the file holds no such predictions.
    """
    correct = f"{column}_correct"
    try:
        if correct not in pq.read_schema(file).names:
            raise ValueError(f"{file} holds no column {correct}; expected the predictions.parquet of a run")
        return (
            pq.read_table(file, columns=["set", "key", correct]).drop_null().rename_columns(["set", "key", "correct"])
        )
    except (OSError, pa.ArrowInvalid) as error:
        raise ValueError(f"{file} cannot be read as the predictions of a finished run: {error}") from error


def read_correct(files: Sequence[str | Path], column: str = STUDENT_LOW_RES.key) -> NDArray[np.bool_]:
    """(S, M): whether a column of S ``predictions.parquet`` (one a seed) has each of the same M judged words right.

    Args:
        column: the key of what was trained: a student, or a teacher.

    Raises: ValueError if a file holds no such predictions, or those of other words than the first.
    """
    tables = [read_judged(file, column) for file in files]
    for file, table in zip(files, tables, strict=True):
        if not table.drop_columns("correct").equals(tables[0].drop_columns("correct")):
            raise ValueError(f"{file} and {files[0]} are of different words; read the same benchmarks for all")
    return np.array([table["correct"].to_numpy() for table in tables], dtype=bool)


def compare_paired(
    baseline: ArrayLike, candidates: Mapping[str, ArrayLike], *, name: str = "the baseline"
) -> SignificanceTest:
    """Gains of retrained candidates over the retrained baseline, paired over seeds and words, with intervals.

    The intervals (``half_widths``) allow for other seeds and for other words, and all of them hold at once with 95 %,
    whichever candidate is then picked. One seed cannot show how seeds scatter: then the intervals are for words
    alone and it stays open which is better.

    Args:
        baseline: (S, M) bool, whether the baseline trained with seed i has word w right.
        candidates: by name, the same for the same seeds and words; one at least.
        name: of the baseline.

    Raises: ValueError for fewer than two words.
    """
    correct = {n: np.asarray(values) for n, values in {name: baseline, **candidates}.items()}
    num_seeds, num_words = correct[name].shape
    assert len(correct) == 1 + len(candidates) > 1
    assert all(values.dtype == bool and values.shape == (num_seeds, num_words) for values in correct.values())
    if num_words < 2:
        raise ValueError(f"{num_words} words show no difference between {name} and others; give more benchmark words")
    accuracies = {n: tuple((100 * values.mean(axis=1)).tolist()) for n, values in correct.items()}
    halves = half_widths(correct.pop(name), list(correct.values()))
    points = {n: fmean(accuracies[n]) - fmean(accuracies[name]) for n in candidates}
    gains = [Gain(n, points[n], points[n] - 100 * h, points[n] + 100 * h) for n, h in zip(points, halves, strict=True)]
    is_better = None if num_seeds == 1 else _winner(gains).low > 0
    return SignificanceTest(name, accuracies, tuple(gains), num_words, is_better)


def half_widths(baseline: NDArray[np.bool_], candidates: Sequence[NDArray[np.bool_]]) -> list[float]:
    """Half the interval of each candidate's mean gain, as a fraction; all of them hold at once with ``LEVEL``.

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
    are Bonferroni's, each at 1 - (1 - LEVEL) / k.

    With one seed there is no MS_seed: the interval is Student's over words alone.

    Args:
        baseline: (S, M), whether word w is read correctly with seed i; two words at least.
        candidates: the same of each.
    """
    num_seeds, num_words = baseline.shape
    pooled = num_words * _seed_variance(np.array([values.mean(axis=1) for values in (baseline, *candidates)]))
    df_seed = len(candidates) * (num_seeds - 1)
    one_level = 1 - (1 - LEVEL) / len(candidates)
    return [_half_width(c.astype(float) - baseline, pooled, df_seed, one_level) for c in candidates]


def signed(points: float) -> str:
    """With its sign, a true minus: +0.40, −0.60, 0.00."""
    text = f"{points:+.2f}"
    return "0.00" if text in ("+0.00", "-0.00") else text.replace("-", "−")


def _winner(gains: Sequence[Gain]) -> Gain:
    return max(gains, key=lambda gain: (gain.low > 0, gain.points))


def _half_width(difference: NDArray[np.float64], pooled: float, df_seed: int, level: float) -> float:
    """Half the interval of the mean of (S, M) differences."""
    num_seeds, num_words = difference.shape
    mean, by_word = difference.mean(), difference.mean(axis=0)
    ms_word = num_seeds * ((by_word - mean) ** 2).sum() / (num_words - 1)
    if num_seeds == 1:
        return _student_t(level, num_words - 1) * math.sqrt(ms_word / num_words)
    by_seed = difference.mean(axis=1)
    both = difference - by_seed[:, None] - by_word + mean
    ms_both = (both**2).sum() / ((num_seeds - 1) * (num_words - 1))
    own = num_words * by_seed.var(ddof=1)
    ms_seed = max(own, pooled, ms_both)
    total = ms_seed + max(ms_word - ms_both, 0.0)
    df = total**2 / (ms_seed**2 / df_seed) if ms_seed > 0 else math.inf
    return _student_t(level, df) * math.sqrt(total / (num_seeds * num_words))


def _seed_variance(accuracies: NDArray[np.float64]) -> float:
    """Of the difference of two points, over seeds: twice the residual of (points, seeds) without both main effects."""
    num_points, num_seeds = accuracies.shape
    if num_seeds == 1:
        return math.nan
    residual = accuracies - accuracies.mean(axis=1, keepdims=True) - accuracies.mean(axis=0) + accuracies.mean()
    return float(2 * (residual**2).sum() / ((num_points - 1) * (num_seeds - 1)))


def _student_t(level: float, df: float) -> float:
    """The t with P(|T| <= t) = level."""
    return float(stdtrit(df, (1 + level) / 2))
