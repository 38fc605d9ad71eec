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

import pyarrow as pa
import pyarrow.parquet as pq

from kdltr_core.charset import Protocol, fold
from kdltr_core.metrics import McNemar, character_error_rate, is_correct, mcnemar, ned_similarity, standard_error

Role = Literal["teacher_high_res", "teacher_enlarged", "student_low_res", "two_stage"]
ImageKind = Literal["high_res", "enlarged", "low_res"]

_IMAGES: dict[Role, ImageKind] = {
    "teacher_high_res": "high_res",
    "teacher_enlarged": "enlarged",
    "student_low_res": "low_res",
    "two_stage": "low_res",
}
_PROTOCOLS = {
    "36": "36 characters (letters and digits, case-insensitive)",
    "62": "62 characters (letters and digits, case-sensitive)",
    "94": "94 characters (printable ASCII, case-sensitive)",
}


def describe_protocol(protocol: Protocol) -> str:
    """Which characters count."""
    return _PROTOCOLS[protocol]


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
    """One word of a benchmark: ``row`` counts from 0 in its set, ``key`` is its name in the source.

    Attributes:
        predictions: by reader.
        confidences: of the predictions, in [0, 1]; empty where they are not known.
        uncalibrated: the confidences before a temperature, of the readers that have one.
    """

    set_name: str
    row: int
    key: str
    label: str
    predictions: Mapping[Column, str]
    confidences: Mapping[Column, float] = field(default_factory=dict)
    uncalibrated: Mapping[Column, float] = field(default_factory=dict)

    def is_correct(self, column: Column, protocol: Protocol = "36") -> bool:
        return is_correct(self.predictions[column], self.label, protocol)


def is_judged(label: str, protocol: Protocol = "36") -> bool:
    """Whether the label has a character that counts; what is predicted for another says nothing about a reader."""
    return bool(fold(label, protocol))


def check_judged(labels: Mapping[str, Sequence[str]], protocol: Protocol = "36") -> None:
    """Raises: ValueError for a set of labels that is empty, or has none that is judged."""
    for name, of_set in labels.items():
        if not of_set:
            raise ValueError(f"the benchmark set {name} is empty: it has no word that can be scored")
        if not any(is_judged(label, protocol) for label in of_set):
            raise ValueError(
                f"the benchmark set {name} cannot be scored: none of its {len(of_set)} labels, such as {of_set[0]!r}, "
                f"has a character that counts under protocol {protocol} ({describe_protocol(protocol)}); leave it out"
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
        arrays[column.key] = pa.array([w.predictions[column] for w in words])
        correct = [w.is_correct(column, protocol) if is_judged(w.label, protocol) else None for w in words]
        arrays[f"{column.key}_correct"] = pa.array(correct, pa.bool_())
        if column in words[0].confidences:
            arrays[f"{column.key}_confidence"] = pa.array([w.confidences[column] for w in words], pa.float32())
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
        protocol: which characters counted.
        columns: the readers, in printing order.
        scores: by set name, then reader, of the words that are judged.
        character_error_rates: of each reader, over all judged words.
        comparisons: paired tests of each student against what enlarges low_res, and of the students in pairs.
        words: every word, judged or not.
        note: a sentence below the table, on how what was read came about.
    """

    protocol: Protocol
    columns: tuple[Column, ...]
    scores: Mapping[str, Mapping[Column, SetScore]]
    character_error_rates: Mapping[Column, float]
    comparisons: tuple[PairedComparison, ...]
    words: tuple[WordResult, ...] = field(repr=False)
    note: str = ""

    @classmethod
    def build(
        cls,
        labels: Mapping[str, Sequence[str]],
        predictions: Mapping[str, Mapping[Column, Sequence[str]]],
        *,
        keys: Mapping[str, Sequence[str]] | None = None,
        confidences: Mapping[str, Mapping[Column, Sequence[float]]] | None = None,
        uncalibrated: Mapping[str, Mapping[Column, Sequence[float]]] | None = None,
        protocol: Protocol = "36",
    ) -> BenchmarkTable:
        """Score the predictions of every set.

        Args:
            labels: by set, one string a word.
            predictions: by set, then reader: one a word, in the labels' order. The same readers in every set.
            keys: by set, the words' names in their source; their 1-based numbers by default.
            confidences: of the predictions, as these are ordered; of the readers that have them.
            uncalibrated: the same before a temperature, of the readers that have one.

        Raises: ValueError for no sets, sets that differ in readers or length; as ``check_judged``.
        """
        if not labels:
            raise ValueError("there is no benchmark set to score")
        check_judged(labels, protocol)
        columns = tuple(predictions[next(iter(labels))])
        words: list[WordResult] = []
        scores: dict[str, dict[Column, SetScore]] = {}
        for name, of_set in labels.items():
            if tuple(predictions[name]) != columns:
                raise ValueError(f"set {name} was read by other readers than {next(iter(labels))}")
            for column, predicted in predictions[name].items():
                if len(predicted) != len(of_set):
                    raise ValueError(
                        f"{column.title} has {len(predicted)} predictions for {len(of_set)} labels of set {name}"
                    )
            names = keys[name] if keys else [str(row + 1) for row in range(len(of_set))]
            start = len(words)
            for row, (key, label) in enumerate(zip(names, of_set, strict=True)):
                certainties = [
                    {c: values[row] for c, values in given[name].items()} if given else {}
                    for given in (confidences, uncalibrated)
                ]
                predicted_of = {c: predictions[name][c][row] for c in columns}
                words.append(WordResult(name, row, key, label, predicted_of, *certainties))
            judged = [w for w in words[start:] if is_judged(w.label, protocol)]
            scores[name] = {c: _score(judged, c, protocol) for c in columns}

        judged = [w for w in words if is_judged(w.label, protocol)]
        truths = [w.label for w in judged]
        rates = {c: character_error_rate([w.predictions[c] for w in judged], truths, protocol) for c in columns}
        correct = {c: [w.is_correct(c, protocol) for w in judged] for c in columns}
        comparisons = tuple(PairedComparison(a, b, mcnemar(correct[a], correct[b])) for a, b in _pairs(columns))
        return cls(protocol, columns, scores, rates, comparisons, tuple(words))

    @cached_property
    def judged(self) -> tuple[WordResult, ...]:
        """The words that the figures are of."""
        return tuple(w for w in self.words if is_judged(w.label, self.protocol))

    @property
    def num_words(self) -> int:
        """That are judged."""
        return len(self.judged)

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
        accuracy = sum(of_set[column].num_correct for of_set in self.scores.values()) / self.num_words
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
            accuracies = [_percent(of_set[c].accuracy, of_set[c].standard_error) for c in self.columns]
            rows.append([name, str(of_set[self.columns[0]].count), *accuracies])
        rows.append(["weighted mean", str(self.num_words), *(_percent(*self.weighted(c)) for c in self.columns)])
        rows.append(["plain mean", self._sets, *(_percent(*self.plain(c)) for c in self.columns)])
        rows.append(["1 − NED", "", *(f"{100 * self.ned(c):.2f}" for c in self.columns)])
        rates = [f"{100 * self.character_error_rates[c]:.2f}" for c in self.columns]
        rows.append(["character error rate", "", *rates])
        headline = f"Word accuracy, % ± standard error. Protocol: {_PROTOCOLS[self.protocol]}. {self.summary}."
        lines = [headline, "", *markdown_rows(rows)]
        if self.comparisons:
            lines += ["", *(f"- {c.to_text()}" for c in self.comparisons)]
        if self.note:
            lines += ["", self.note]
        return "\n".join(lines) + "\n"

    def to_tree(self) -> dict[str, Any]:
        """Everything but the words, as ``table.json`` has it; accuracies in [0, 1]."""
        return {
            "protocol": self.protocol,
            "num_words": self.num_words,
            "num_not_judged": len(self.words) - self.num_words,
            "columns": [c.key for c in self.columns],
            "sets": {
                name: {
                    c.key: {**asdict(s), "accuracy": s.accuracy, "standard_error": s.standard_error}
                    for c, s in of_set.items()
                }
                for name, of_set in self.scores.items()
            },
            "weighted_mean": {c.key: _with_error(*self.weighted(c)) for c in self.columns},
            "plain_mean": {c.key: _with_error(*self.plain(c)) for c in self.columns},
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


def _pairs(columns: Sequence[Column]) -> list[tuple[Column, Column]]:
    students = [c for c in columns if c.role == "student_low_res"]
    enlarged = [c for c in columns if c.role in ("teacher_enlarged", "two_stage")]
    return [(s, t) for s in students for t in enlarged] + list(combinations(students, 2))


def _score(words: Sequence[WordResult], column: Column, protocol: Protocol) -> SetScore:
    similarity = ned_similarity([w.predictions[column] for w in words], [w.label for w in words], protocol)
    return SetScore(sum(w.is_correct(column, protocol) for w in words), len(words), similarity)


def _percent(accuracy: float, error: float) -> str:
    return f"{100 * accuracy:.2f} ± {100 * error:.2f}"


def _with_error(accuracy: float, error: float) -> dict[str, float]:
    return {"accuracy": accuracy, "standard_error": error}


def markdown_rows(rows: Sequence[Sequence[str]]) -> list[str]:
    """Padded so that the table is legible as plain text too; the first column left, the others right-aligned."""
    rows = [[cell.replace("|", "\\|") for cell in row] for row in rows]
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]

    def line(row: Sequence[str]) -> str:
        cells = [row[0].ljust(widths[0]), *(cell.rjust(w) for cell, w in zip(row[1:], widths[1:], strict=True))]
        return "| " + " | ".join(cells) + " |"

    ruler = "|" + "-" * (widths[0] + 2) + "|" + "|".join("-" * (w + 1) + ":" for w in widths[1:]) + "|"
    return [line(rows[0]), ruler, *(line(row) for row in rows[1:])]
