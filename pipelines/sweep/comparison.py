"""Several ways to train a student, each with the same seeds: how many words they read, and which is ahead of which."""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import fmean, stdev

import numpy as np
from numpy.typing import NDArray

from kdltr_core.evaluation.significance import SignificanceTest, compare_paired, signed
from kdltr_core.evaluation.table import markdown_rows
from kdltr_core.metrics import mcnemar


@dataclass(frozen=True)
class Candidate:
    """What the students trained in one way came to.

    Attributes:
        name: of the way.
        correct: (seeds, words) bool, whether each student has each word right.
        images_per_second: of training, of each seed; nan where it was not measured.
    """

    name: str
    correct: NDArray[np.bool_]
    images_per_second: tuple[float, ...]

    @property
    def accuracies(self) -> tuple[float, ...]:
        """In % of all words, one a seed."""
        return tuple((100 * self.correct.mean(axis=1)).tolist())

    @property
    def accuracy(self) -> float:
        """Mean over seeds, in %."""
        return fmean(self.accuracies)

    @property
    def standard_error(self) -> float:
        """Of that mean, from the scatter between seeds, in points; nan for a single seed."""
        values = self.accuracies
        return stdev(values) / math.sqrt(len(values)) if len(values) > 1 else math.nan

    @property
    def speed(self) -> float:
        """Mean over the seeds of which it is known, in images per second; nan for none."""
        known = [value for value in self.images_per_second if not math.isnan(value)]
        return fmean(known) if known else math.nan


@dataclass(frozen=True)
class ObjectiveComparison:
    """Candidates in the order given, all read on the same words.

    Attributes:
        reference: name of the one that the others are tested against.
        seeds: of the students, the same for each.
        sets: (words,) name of the set of each word.
        left_out: names of those that lack a seed.
    """

    candidates: tuple[Candidate, ...]
    reference: str
    seeds: tuple[int, ...]
    sets: tuple[str, ...]
    left_out: tuple[str, ...] = ()

    @property
    def significance(self) -> SignificanceTest | None:
        """Of all others over the reference; None without either."""
        others = {c.name: c.correct for c in self.candidates if c.name != self.reference}
        base = self._reference()
        return compare_paired(base.correct, others, name=self.reference) if base is not None and others else None

    def p_values(self, candidate: Candidate) -> tuple[float, ...]:
        """Exact McNemar tests against the reference, one a seed; none for the reference itself or without it."""
        base = self._reference()
        if base is None or candidate.name == self.reference:
            return ()
        pairs = zip(base.correct, candidate.correct, strict=True)
        return tuple(mcnemar(first.tolist(), second.tolist()).p for first, second in pairs)

    def metrics(self) -> dict[str, float]:
        """In figures, by ``comparison/<name>/…``; what is not known is absent."""
        significance = self.significance
        values: dict[str, float] = {}
        for c in self.candidates:
            values |= {
                f"comparison/{c.name}/word_accuracy": c.accuracy,
                f"comparison/{c.name}/standard_error": c.standard_error,
                f"comparison/{c.name}/images_per_second": c.speed,
            }
        for gain in significance.gains if significance else ():
            values |= {
                f"comparison/{gain.name}/gain": gain.points,
                f"comparison/{gain.name}/gain_low": gain.low,
                f"comparison/{gain.name}/gain_high": gain.high,
            }
        return {name: value for name, value in values.items() if not math.isnan(value)}

    def to_markdown(self, title: str) -> str:
        """The page: one row a candidate, then one column a set."""
        lines = [f"# {title}", ""]
        if not self.candidates:
            return "\n".join([*lines, "No objective has all its seeds yet.", *self._left_out_lines()]) + "\n"
        num_seeds, num_words = self.candidates[0].correct.shape
        seeds = f"{num_seeds} seeds" if num_seeds > 1 else "one seed"
        lines += [f"Word accuracy in %, {num_words:,} words, {seeds} ({', '.join(map(str, self.seeds))}).", ""]
        lines += [*markdown_rows(self._rows()), "", *self._notes(), ""]
        lines += ["## By set", "", *markdown_rows(self._set_rows()), *self._left_out_lines()]
        return "\n".join(lines) + "\n"

    def _reference(self) -> Candidate | None:
        return next((c for c in self.candidates if c.name == self.reference), None)

    def _rows(self) -> list[list[str]]:
        significance = self.significance
        gains = {gain.name: gain for gain in significance.gains} if significance else {}
        rows = [["objective", "accuracy", "by seed", f"gain over {self.reference}", "95 % interval", "p", "images/s"]]
        for c in self.candidates:
            error = "" if math.isnan(c.standard_error) else f" ± {c.standard_error:.2f}"
            row = [c.name, f"{c.accuracy:.2f}{error}", " ".join(f"{a:.2f}" for a in c.accuracies), "", ""]
            if c.name in gains:
                gain = gains[c.name]
                row[3:] = [signed(gain.points), f"{signed(gain.low)} … {signed(gain.high)}"]
            speed = "" if math.isnan(c.speed) else f"{c.speed:.0f}"
            rows.append([*row, " ".join(f"{p:.2g}" for p in self.p_values(c)), speed])
        return rows

    def _notes(self) -> list[str]:
        notes = ["±: standard error of the mean, from the scatter between seeds."] if len(self.seeds) > 1 else []
        if self.significance is not None:
            whose = "other seeds and other words" if len(self.seeds) > 1 else "other words alone"
            notes.append(f"Intervals allow for {whose} and hold all at once.")
            notes.append("p: exact McNemar test of each seed's student against the reference's of the same seed.")
        return [" ".join(notes)] if notes else []

    def _set_rows(self) -> list[list[str]]:
        names, sets = list(dict.fromkeys(self.sets)), np.array(self.sets)
        shown = [f"{name} ({int((sets == name).sum())})" for name in names]
        rows = [["objective", *shown]]
        return rows + [
            [c.name, *(f"{100 * c.correct[:, sets == name].mean():.2f}" for name in names)] for c in self.candidates
        ]

    def _left_out_lines(self) -> list[str]:
        if not self.left_out:
            return []
        return ["", f"Left out, because not every seed came to its end: {', '.join(self.left_out)}."]
