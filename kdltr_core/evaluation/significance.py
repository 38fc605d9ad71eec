"""Whether a point found by a sweep reads more words than the published one, or the sweep was lucky."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import ArrayLike, NDArray

from kdltr_core.evaluation.paired_interval import half_widths
from kdltr_core.evaluation.readings import STUDENT_LOW_RES


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
        baseline: name of the point to beat.
        accuracies: of baseline and candidates by name, in % of all words, one a seed.
        gains: of the candidates, in the order given.
        num_words: read by every student.
        level: with which all the intervals hold at once.
        is_better: whether the winner's interval lies above zero; None where one seed leaves it open.
    """

    baseline: str
    accuracies: Mapping[str, tuple[float, ...]]
    gains: tuple[Gain, ...]
    num_words: int
    level: float
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
        """The verdict in plain words."""
        gain, base = self.winner, self.baseline
        several = f", corrected for {len(self.gains)} candidates" if len(self.gains) > 1 else ""
        interval = f"{100 * self.level:g} % interval {signed(gain.low)} … {signed(gain.high)}{several}"
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


def read_correct(files: Sequence[str | Path], column: str = STUDENT_LOW_RES.key) -> NDArray[np.bool_]:
    """(S, M): whether a column of S ``predictions.parquet`` (one a seed) has each of the same M words right.

    Args:
        column: the key of what was trained: a student, or a teacher.

    Raises: ValueError if a file holds no such readings, or those of other words than the first.
    """
    correct = f"{column}_correct"
    rows, first = [], None
    for file in files:
        try:
            if correct not in pq.read_schema(file).names:
                raise ValueError(f"{file} holds no column {correct}; expected the predictions.parquet of a run")
            table = pq.read_table(file, columns=["set", "key", correct])
        except (OSError, pa.ArrowInvalid) as error:
            raise ValueError(f"{file} cannot be read as the readings of a finished run: {error}") from error
        words = table.select(["set", "key"])
        first = first or words
        if not words.equals(first):
            raise ValueError(f"{file} and {files[0]} are readings of different words; read the same benchmarks for all")
        rows.append(table[correct].to_numpy())
    return np.array(rows, dtype=bool)


def compare(
    baseline: ArrayLike, candidates: Mapping[str, ArrayLike], *, name: str = "the published point", level: float = 0.95
) -> SignificanceTest:
    """Gains of retrained candidates over the retrained baseline, paired over seeds and words, with intervals.

    The intervals (``paired_interval.py``) allow for other seeds and for other words, and all of them hold at once with
    that level, whichever candidate is then picked. One seed cannot show how seeds scatter: then the intervals are for
    words alone and the verdict is left open.

    Args:
        baseline: (S, M) bool, whether the baseline trained with seed i has word w right.
        candidates: by name, the same for the same seeds and words.
        name: of the baseline.
        level: in (0, 1).

    Raises: ValueError for no candidates, fewer than two words, shapes that differ, or values that are no booleans.
    """
    if not candidates:
        raise ValueError("there is no candidate to compare with the baseline")
    if not 0 < level < 1:
        raise ValueError(f"level is {level}, expected a share between 0 and 1 such as 0.95")
    if name in candidates:
        raise ValueError(f"the baseline and a candidate are both called {name!r}; give the baseline another name")
    readings = {n: _checked(n, values) for n, values in {name: baseline, **candidates}.items()}
    num_seeds, num_words = readings[name].shape
    for n, values in readings.items():
        if values.shape != readings[name].shape:
            raise ValueError(
                f"{n} has {values.shape[0]} seeds of {values.shape[1]} words and {name} {num_seeds} of {num_words}; "
                "they are compared on the same seeds and words"
            )
    accuracies = {n: tuple((100 * values.mean(axis=1)).tolist()) for n, values in readings.items()}
    halves = half_widths(readings.pop(name), list(readings.values()), level)
    points = {n: fmean(accuracies[n]) - fmean(accuracies[name]) for n in candidates}
    gains = [Gain(n, points[n], points[n] - 100 * h, points[n] + 100 * h) for n, h in zip(points, halves, strict=True)]
    is_better = None if num_seeds == 1 else _winner(gains).low > 0
    return SignificanceTest(name, accuracies, tuple(gains), num_words, level, is_better)


def signed(points: float) -> str:
    """With its sign, a true minus: +0.40, −0.60, 0.00."""
    text = f"{points:+.2f}"
    return "0.00" if text in ("+0.00", "-0.00") else text.replace("-", "−")


def _winner(gains: Sequence[Gain]) -> Gain:
    return max(gains, key=lambda gain: (gain.low > 0, gain.points))


def _checked(name: str, values: ArrayLike) -> NDArray[np.bool_]:
    array = np.asarray(values)
    if array.ndim != 2 or array.shape[0] < 1 or array.shape[1] < 2:
        raise ValueError(f"the readings of {name} have shape {array.shape}, expected (seeds, words), 2 words at least")
    if array.dtype != bool:
        raise ValueError(f"the readings of {name} are {array.dtype}, expected booleans: is the word right")
    return array
