"""The benchmark table: what every reader predicted for every word, and what it comes to."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from itertools import combinations
from pathlib import Path
from statistics import fmean
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from kdltr_core.charset import Protocol, fold
from kdltr_core.metrics import McNemar, character_error_rate, is_correct, mcnemar, ned_similarity, standard_error
from kdltr_core.recognizers.decoding import Prediction

Role = Literal["teacher_high_res", "teacher_enlarged", "student_low_res", "two_stage"]
ImageKind = Literal["high_res", "enlarged", "low_res"]

PROTOCOL_TITLES: dict[Protocol, str] = {
    "36": "36 characters (letters and digits, case-insensitive)",
    "62": "62 characters (letters and digits, case-sensitive)",
    "94": "94 characters (printable ASCII, case-sensitive)",
}
_IMAGES: dict[Role, ImageKind] = {
    "teacher_high_res": "high_res",
    "teacher_enlarged": "enlarged",
    "student_low_res": "low_res",
    "two_stage": "low_res",
}


@dataclass(frozen=True)
class Column:
    """A reader and the images it reads; ``name`` tells several of one role apart."""

    role: Role
    name: str = ""

    @property
    def key(self) -> str:
        """As files have it: ``student_low_res`` or ``student_low_res:name``."""
        return f"{self.role}:{self.name}" if self.name else self.role

    @property
    def title(self) -> str:
        """As tables have it: ``teacher, enlarged low_res``, ``student (name), low_res`` or ``two-stage, low_res``."""
        who = "two-stage" if self.role == "two_stage" else self.role.partition("_")[0]
        who += f" ({self.name})" if self.name else ""
        return f"{who}, enlarged low_res" if self.image == "enlarged" else f"{who}, {self.image}"

    @property
    def image(self) -> ImageKind:
        """Which images the reader is shown, in ``batched.recognizer_reader``'s words."""
        return _IMAGES[self.role]


TEACHER_HIGH_RES = Column("teacher_high_res")
TEACHER_ENLARGED = Column("teacher_enlarged")
STUDENT_LOW_RES = Column("student_low_res")


@dataclass(frozen=True)
class WordResult:
    """One word of a benchmark and what each reader predicts: ``row`` counts from 0 in its set, ``key`` is its name."""

    set_name: str
    row: int
    key: str
    label: str
    predictions: Mapping[Column, Prediction]

    def is_correct(self, column: Column, protocol: Protocol = "36") -> bool:
        return is_correct(self.predictions[column].text, self.label, protocol)


def is_judged(label: str, protocol: Protocol = "36") -> bool:
    """Whether the label has a character that counts; what is predicted for another says nothing about a reader."""
    return bool(fold(label, protocol))


def check_judged(labels: Mapping[str, Sequence[str]], protocol: Protocol = "36") -> None:
    """Raises: ValueError for a set of labels that is empty, or has none that is judged."""
    for name, of_set in labels.items():
        if not any(is_judged(label, protocol) for label in of_set):
            raise ValueError(
                f"the benchmark set {name} cannot be scored: none of its {len(of_set)} labels "
                f"{f'such as {of_set[0]!r} ' if of_set else ''}has a character that counts under protocol {protocol} "
                f"({PROTOCOL_TITLES[protocol]}); leave it out"
            )


def write_predictions(path: str | Path, words: Sequence[WordResult], protocol: Protocol = "36") -> None:
    """Parquet, one row a word: set, key, label, then each reader's prediction, whether it is right, its confidence.

    Whether it is right is null where the word is not judged.
    """
    arrays: dict[str, Any] = {
        "set": pa.array([w.set_name for w in words]),
        "key": pa.array([w.key for w in words]),
        "label": pa.array([w.label for w in words]),
    }
    for column in words[0].predictions:
        correct = [w.is_correct(column, protocol) if is_judged(w.label, protocol) else None for w in words]
        arrays[column.key] = pa.array([w.predictions[column].text for w in words])
        arrays[f"{column.key}_correct"] = pa.array(correct, pa.bool_())
        arrays[f"{column.key}_confidence"] = pa.array([w.predictions[column].confidence for w in words], pa.float32())
    pq.write_table(pa.table(arrays).replace_schema_metadata({"protocol": protocol}), path)


@dataclass(frozen=True)
class SetScore:
    """One reader on one set. ``ned_similarity`` is 1 - mean of edit distance over the longer length."""

    num_correct: int
    count: int
    ned_similarity: float

    @property
    def accuracy(self) -> float:
        """In [0, 1]."""
        return self.num_correct / self.count

    @property
    def standard_error(self) -> float:
        return standard_error(self.accuracy, self.count)


@dataclass(frozen=True)
class PairedComparison:
    """Two readers on the same words, all sets together."""

    first: Column
    second: Column
    test: McNemar

    def to_text(self) -> str:
        p = "p < 1e-300" if self.test.p == 0 else f"p = {self.test.p:.2g}"
        return (
            f"{self.first.title} vs. {self.second.title}: only the first correct on {self.test.only_first} words, "
            f"only the second on {self.test.only_second}; {p} (exact McNemar test, two-sided)"
        )

    def to_tree(self) -> dict[str, Any]:
        return {"first": self.first.key, "second": self.second.key, **asdict(self.test)}


@dataclass(frozen=True)
class BenchmarkTable:
    """Word accuracies by set and reader.

    Attributes:
        words: every word, judged or not; the figures are of those that are judged.
        protocol: which characters count.
        note: a sentence below the table, on how what was read came about.
    """

    words: tuple[WordResult, ...] = field(repr=False)
    protocol: Protocol = "36"
    note: str = ""

    @classmethod
    def build(
        cls,
        labels: Mapping[str, Sequence[str]],
        predictions: Mapping[str, Mapping[Column, Sequence[Prediction]]],
        *,
        keys: Mapping[str, Sequence[str]] | None = None,
        protocol: Protocol = "36",
    ) -> BenchmarkTable:
        """Score the predictions of every set.

        Args:
            labels: by set, one string a word.
            predictions: by set, then reader: one a word, in the labels' order. The same readers in every set.
            keys: by set, the words' names in their source; their 1-based numbers by default.

        Raises: ValueError as ``check_judged``.
        """
        check_judged(labels, protocol)
        words: list[WordResult] = []
        for name, of_set in labels.items():
            names = keys[name] if keys else [str(row + 1) for row in range(len(of_set))]
            by_word = zip(*predictions[name].values(), strict=True)
            for row, (key, label, read) in enumerate(zip(names, of_set, by_word, strict=True)):
                words.append(WordResult(name, row, key, label, dict(zip(predictions[name], read, strict=True))))
        return cls(tuple(words), protocol)

    @property
    def columns(self) -> tuple[Column, ...]:
        """The readers, in printing order."""
        return tuple(self.words[0].predictions)

    @cached_property
    def judged(self) -> tuple[WordResult, ...]:
        """The words that the figures are of."""
        return tuple(w for w in self.words if is_judged(w.label, self.protocol))

    @property
    def num_words(self) -> int:
        """That are judged."""
        return len(self.judged)

    @cached_property
    def correct(self) -> dict[Column, np.ndarray]:
        """(num_words,) bool of each reader."""
        return {c: np.array([w.is_correct(c, self.protocol) for w in self.judged]) for c in self.columns}

    def rows_of(self, set_name: str) -> list[int]:
        """Which of the judged words are of a set."""
        return [i for i, word in enumerate(self.judged) if word.set_name == set_name]

    @cached_property
    def scores(self) -> dict[str, dict[Column, SetScore]]:
        """By set name, then reader."""
        scores: dict[str, dict[Column, SetScore]] = {}
        for name in dict.fromkeys(word.set_name for word in self.judged):
            rows = self.rows_of(name)
            labels = [self.judged[i].label for i in rows]
            scores[name] = {}
            for c, right in self.correct.items():
                texts = [self.judged[i].predictions[c].text for i in rows]
                similarity = ned_similarity(texts, labels, self.protocol)
                scores[name][c] = SetScore(int(right[rows].sum()), len(rows), similarity)
        return scores

    @cached_property
    def character_error_rates(self) -> dict[Column, float]:
        """Of each reader, over all words."""
        labels = [w.label for w in self.judged]
        return {
            c: character_error_rate([w.predictions[c].text for w in self.judged], labels, self.protocol)
            for c in self.columns
        }

    def compare(self, first: Column, second: Column) -> PairedComparison:
        """The paired test of two readers."""
        return PairedComparison(first, second, mcnemar(self.correct[first].tolist(), self.correct[second].tolist()))

    @cached_property
    def comparisons(self) -> tuple[PairedComparison, ...]:
        """Paired tests of each student against what enlarges low_res, and of the students in pairs."""
        students = [c for c in self.columns if c.role == "student_low_res"]
        enlarged = [c for c in self.columns if c.role in ("teacher_enlarged", "two_stage")]
        pairs = [(s, t) for s in students for t in enlarged] + list(combinations(students, 2))
        return tuple(self.compare(*pair) for pair in pairs)

    @property
    def summary(self) -> str:
        """ "5 words in 2 sets", and how many more are not judged."""
        rest = len(self.words) - self.num_words
        left_out = f"; not judged: {rest} more, whose labels have no such character" if rest else ""
        return f"{self.num_words} words in {self._sets}{left_out}"

    @property
    def _sets(self) -> str:
        return "1 set" if len(self.scores) == 1 else f"{len(self.scores)} sets"

    def weighted(self, column: Column) -> tuple[float, float]:
        """Accuracy over all words, in [0, 1], and its standard error."""
        accuracy = float(self.correct[column].mean())
        return accuracy, standard_error(accuracy, self.num_words)

    def plain(self, column: Column) -> tuple[float, float]:
        """Mean of the sets' accuracies, in [0, 1], and the standard error that follows from theirs."""
        scores = [of_set[column] for of_set in self.scores.values()]
        return fmean(s.accuracy for s in scores), math.hypot(*(s.standard_error for s in scores)) / len(scores)

    def ned(self, column: Column) -> float:
        """Edit similarity over all words, in [0, 1]."""
        scores = [of_set[column] for of_set in self.scores.values()]
        return fmean((s.ned_similarity for s in scores), [s.count for s in scores])

    def to_markdown(self) -> str:
        """A headline with protocol and counts, the table, and a line for every paired test."""
        rows = [["set", "words", *(c.title for c in self.columns)]]
        for name, of_set in self.scores.items():
            accuracies = [_percent(s.accuracy, s.standard_error) for s in of_set.values()]
            rows.append([name, str(of_set[self.columns[0]].count), *accuracies])
        rows.append(["weighted mean", str(self.num_words), *(_percent(*self.weighted(c)) for c in self.columns)])
        rows.append(["plain mean", self._sets, *(_percent(*self.plain(c)) for c in self.columns)])
        rows.append(["1 − NED", "", *(f"{100 * self.ned(c):.2f}" for c in self.columns)])
        rows.append(["character error rate", "", *(f"{100 * r:.2f}" for r in self.character_error_rates.values())])
        headline = f"Word accuracy, % ± standard error. Protocol: {PROTOCOL_TITLES[self.protocol]}. {self.summary}."
        lines = [headline, "", *markdown_rows(rows)]
        if self.comparisons:
            lines += ["", *(f"- {c.to_text()}" for c in self.comparisons)]
        if self.note:
            lines += ["", self.note]
        return "\n".join(lines) + "\n"

    def to_tree(self) -> dict[str, Any]:
        """Everything but the words, as ``table.json`` has it; accuracies in [0, 1]."""

        def mean(accuracy: float, error: float) -> dict[str, float]:
            return {"accuracy": accuracy, "standard_error": error}

        return {
            "protocol": self.protocol,
            "num_words": self.num_words,
            "num_not_judged": len(self.words) - self.num_words,
            "columns": [c.key for c in self.columns],
            "sets": {
                name: {c.key: asdict(s) | mean(s.accuracy, s.standard_error) for c, s in of_set.items()}
                for name, of_set in self.scores.items()
            },
            "weighted_mean": {c.key: mean(*self.weighted(c)) for c in self.columns},
            "plain_mean": {c.key: mean(*self.plain(c)) for c in self.columns},
            "character_error_rate": {c.key: rate for c, rate in self.character_error_rates.items()},
            "mcnemar": [c.to_tree() for c in self.comparisons],
        }

    def write(self, folder: str | Path) -> None:
        """``table.md``, ``table.json`` and ``predictions.parquet`` in the folder, which is made where it is missing."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        tree = json.dumps(self.to_tree(), indent=2, ensure_ascii=False) + "\n"
        (folder / "table.md").write_text(self.to_markdown(), encoding="utf-8")
        (folder / "table.json").write_text(tree, encoding="utf-8")
        write_predictions(folder / "predictions.parquet", self.words, self.protocol)


def _percent(accuracy: float, error: float) -> str:
    return f"{100 * accuracy:.2f} ± {100 * error:.2f}"


def markdown_rows(rows: Sequence[Sequence[str]]) -> list[str]:
    """Padded so that the table is legible as plain text too; the first column left, the others right-aligned."""
    rows = [[cell.replace("|", "\\|") for cell in row] for row in rows]
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]

    def line(row: Sequence[str]) -> str:
        cells = [row[0].ljust(widths[0]), *(cell.rjust(w) for cell, w in zip(row[1:], widths[1:], strict=True))]
        return "| " + " | ".join(cells) + " |"

    ruler = "|" + "-" * (widths[0] + 2) + "|" + "|".join("-" * (w + 1) + ":" for w in widths[1:]) + "|"
    return [line(rows[0]), ruler, *(line(row) for row in rows[1:])]
