"""Several ways to train a student, each with the same seeds: how many words they read, and which is ahead of which."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kdltr_core.evaluation.significance import SignificanceTest, compare_paired, read_correct, read_judged, signed
from pipelines.sweep.page import Rows, Section
from pipelines.sweep.study import SweepStudy, as_json


@dataclass(frozen=True)
class Candidate:
    """What the students trained in one way came to.

    Attributes:
        name: of the way.
        correct: (seeds, words) bool, whether each student has each word right.
    """

    name: str
    correct: NDArray[np.bool_]

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


@dataclass(frozen=True)
class CandidateComparison:
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
        base = next((c for c in self.candidates if c.name == self.reference), None)
        return compare_paired(base.correct, others, name=self.reference) if base is not None and others else None

    def metrics(self) -> dict[str, float]:
        """In figures, by ``comparison/<name>/…``."""
        significance = self.significance
        values = {f"comparison/{c.name}/word_accuracy": c.accuracy for c in self.candidates}
        for gain in significance.gains if significance else ():
            values |= {
                f"comparison/{gain.name}/gain": gain.points,
                f"comparison/{gain.name}/gain_low": gain.low,
                f"comparison/{gain.name}/gain_high": gain.high,
            }
        return values

    def sections(self, title: str) -> list[Section]:
        """For a page: one row a candidate, then one column a set."""
        left_out = f"Left out, because not every seed came to its end: {', '.join(self.left_out)}."
        notes = [left_out] if self.left_out else []
        if not self.candidates:
            return [Section(title, text=" ".join(["None has all its seeds yet.", *notes]))]
        num_seeds, num_words = self.candidates[0].correct.shape
        seeds = f"{num_seeds} seeds" if num_seeds > 1 else "one seed"
        about = [f"Word accuracy in %, {num_words:,} words, {seeds} ({', '.join(map(str, self.seeds))})."]
        if num_seeds > 1:
            about.append("±: standard error of the mean, from the scatter between seeds.")
        if self.significance is not None:
            whose = "other seeds and other words" if num_seeds > 1 else "other words alone"
            about.append(f"Intervals allow for {whose} and hold all at once.")
        return [
            Section(title, self._rows(), " ".join([*about, *notes])),
            Section(f"{title} by set", self._set_rows()),
        ]

    def _rows(self) -> Rows:
        significance = self.significance
        gains = {gain.name: gain for gain in significance.gains} if significance else {}
        rows = [["candidate", "accuracy", "by seed", f"gain over {self.reference}", "95 % interval"]]
        for c in self.candidates:
            error = "" if math.isnan(c.standard_error) else f" ± {c.standard_error:.2f}"
            row = [c.name, f"{c.accuracy:.2f}{error}", " ".join(f"{a:.2f}" for a in c.accuracies), "", ""]
            if c.name in gains:
                gain = gains[c.name]
                row[3:] = [signed(gain.points), f"{signed(gain.low)} … {signed(gain.high)}"]
            rows.append(row)
        return rows

    def _set_rows(self) -> Rows:
        names, sets = list(dict.fromkeys(self.sets)), np.array(self.sets)
        rows = [["candidate", *(f"{name} ({int((sets == name).sum())})" for name in names)]]
        return rows + [
            [c.name, *(f"{100 * c.correct[:, sets == name].mean():.2f}" for name in names)] for c in self.candidates
        ]


@dataclass(frozen=True)
class CandidateRuns:
    """Candidates, each to be trained with every seed: all with the first, then with the next.

    Attributes:
        study: that holds a trial for each.
        fields: by candidate, what its config has otherwise than the others'.
        reference: the candidate that the others are tested against.
        column: key of the column of predictions that is compared.
    """

    study: SweepStudy
    fields: Mapping[str, Mapping[str, Any]]
    seeds: tuple[int, ...]
    reference: str
    column: str

    @property
    def points(self) -> list[dict[str, Any]]:
        return [self._point(name, seed) for seed in self.seeds for name in self.fields]

    @property
    def num_missing(self) -> int:
        """How many have not come to their end."""
        return sum(point not in self._finished.values() for point in self.points)

    def compare(self) -> CandidateComparison:
        """What those came to that have all their seeds. Raises: ValueError if they were read on different words."""
        folders = {
            name: [f for seed in self.seeds for f, point in self._finished.items() if point == self._point(name, seed)]
            for name in self.fields
        }
        whole = {name: found for name, found in folders.items() if len(found) == len(self.seeds)}
        files = {name: [folder / "evaluation" / "predictions.parquet" for folder in f] for name, f in whole.items()}
        first = [file for found in files.values() for file in found][:1]
        candidates = [
            # The first file is read along, so that other words than its are noticed.
            Candidate(name, read_correct([*first, *read], self.column)[1:])
            for name, read in files.items()
        ]
        sets = read_judged(first[0], self.column)["set"].to_pylist() if first else []
        left_out = tuple(name for name in self.fields if name not in whole)
        return CandidateComparison(tuple(candidates), self.reference, self.seeds, tuple(sets), left_out)

    @property
    def _finished(self) -> dict[Path, Mapping[str, Any]]:
        return {trial.folder: trial.params for trial in self.study.ended if trial.state == "FINISHED"}

    def _point(self, name: str, seed: int) -> dict[str, Any]:
        return as_json({**self.fields[name], "seed": seed})
