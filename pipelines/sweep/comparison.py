"""Several ways to train a student, each with the same seeds: how many words they read, and which is ahead of which."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kdltr_core.evaluation.significance import SignificanceTest, compare_paired, read_correct, read_judged, signed
from pipelines.sweep.page import Rows, Section
from pipelines.sweep.study import SweepStudy, as_json


@dataclass(frozen=True)
class CandidateComparison:
    """What the students trained in each way came to, all read on the same words.

    Attributes:
        correct: by candidate, (seeds, words) bool, whether each student has each word right.
        reference: name of the one that the others are tested against.
        seeds: of the students, the same for each.
        sets: (words,) name of the set of each word.
        left_out: names of those that lack a seed.
    """

    correct: Mapping[str, NDArray[np.bool_]]
    reference: str
    seeds: tuple[int, ...]
    sets: tuple[str, ...]
    left_out: tuple[str, ...] = ()

    @property
    def accuracies(self) -> dict[str, NDArray[np.float64]]:
        """By candidate, (seeds,), in % of all words."""
        return {name: 100 * correct.mean(axis=1) for name, correct in self.correct.items()}

    @cached_property
    def significance(self) -> SignificanceTest | None:
        """Of all others over the reference; None without either, or of a single word."""
        others = {name: correct for name, correct in self.correct.items() if name != self.reference}
        base = self.correct.get(self.reference) if len(self.sets) > 1 else None
        return compare_paired(base, others, name=self.reference) if base is not None and others else None

    def metrics(self) -> dict[str, float]:
        """In figures, by ``comparison/<name>/…``."""
        values = {f"comparison/{name}/word_accuracy": float(each.mean()) for name, each in self.accuracies.items()}
        for gain in self.significance.gains if self.significance else ():
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
        if not self.correct:
            return [Section(title, text=" ".join(["None has all its seeds yet.", *notes]))]
        several = len(self.seeds) > 1
        seeds = f"{len(self.seeds)} seeds" if several else "one seed"
        about = [f"Word accuracy in %, {len(self.sets):,} words, {seeds} ({', '.join(map(str, self.seeds))})."]
        if several:
            about.append("±: standard error of the mean, from the scatter between seeds.")
        if self.significance is not None:
            whose = "other seeds and other words" if several else "other words alone"
            about.append(f"Intervals allow for {whose} and hold all at once.")
        return [
            Section(title, self._rows(), " ".join([*about, *notes])),
            Section(f"{title} by set", self._set_rows()),
        ]

    def _rows(self) -> Rows:
        gains = {gain.name: gain for gain in self.significance.gains} if self.significance else {}
        rows = [["candidate", "accuracy", "by seed", f"gain over {self.reference}", "95 % interval"]]
        for name, each in self.accuracies.items():
            error = f" ± {each.std(ddof=1) / math.sqrt(len(each)):.2f}" if len(each) > 1 else ""
            row = [name, f"{each.mean():.2f}{error}", " ".join(f"{accuracy:.2f}" for accuracy in each), "", ""]
            if gain := gains.get(name):
                row[3:] = [signed(gain.points), f"{signed(gain.low)} … {signed(gain.high)}"]
            rows.append(row)
        return rows

    def _set_rows(self) -> Rows:
        names, sets = list(dict.fromkeys(self.sets)), np.array(self.sets)
        rows = [["candidate", *(f"{name} ({int((sets == name).sum())})" for name in names)]]
        return rows + [
            [name, *(f"{100 * correct[:, sets == each].mean():.2f}" for each in names)]
            for name, correct in self.correct.items()
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
        # The first file is read along, so that other words than its are noticed.
        correct = {name: read_correct([*first, *read], self.column)[1:] for name, read in files.items()}
        sets = read_judged(first[0], self.column)["set"].to_pylist() if first else []
        left_out = tuple(name for name in self.fields if name not in whole)
        return CandidateComparison(correct, self.reference, self.seeds, tuple(sets), left_out)

    @property
    def _finished(self) -> dict[Path, Mapping[str, Any]]:
        return {trial.folder: trial.params for trial in self.study.ended if trial.state == "FINISHED"}

    def _point(self, name: str, seed: int) -> dict[str, Any]:
        return as_json({**self.fields[name], "seed": seed})
