"""The benchmark table: what every reader made of every word, and what it comes to."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path
from typing import Any

from kdltr_core.charset import Protocol
from kdltr_core.evaluation.readings import Column, Reading, write_readings
from kdltr_core.metrics import (
    McNemar,
    character_error_rate,
    is_correct,
    mcnemar,
    ned_similarity,
    plain_mean,
    standard_error,
    weighted_mean,
)

_PROTOCOLS = {
    "36": "36 characters (letters and digits, case-insensitive)",
    "62": "62 characters (letters and digits, case-sensitive)",
    "94": "94 characters (printable ASCII, case-sensitive)",
}


def describe_protocol(protocol: Protocol) -> str:
    """Which characters count."""
    return _PROTOCOLS[protocol]


@dataclass(frozen=True)
class Cell:
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
class Comparison:
    """Two readers on the same words, all sets together."""

    first: Column
    second: Column
    test: McNemar

    def to_text(self) -> str:
        p = "p < 1e-300" if self.test.p == 0 else f"p = {self.test.p:.2g}"
        return (
            f"{self.first.title} vs. {self.second.title}: right alone on {self.test.only_first} words, "
            f"wrong alone on {self.test.only_second}; {p} (exact McNemar test, two-sided)"
        )


@dataclass(frozen=True)
class BenchmarkTable:
    """Word accuracies by set and reader.

    Attributes:
        protocol: which characters counted.
        columns: the readers, in printing order.
        cells: by set name, then reader.
        character_error_rates: of each reader, over all words.
        comparisons: paired tests of each student against what enlarges low_res, and of the students in pairs.
        readings: every word; empty where the table was read back from JSON.
    """

    protocol: Protocol
    columns: tuple[Column, ...]
    cells: Mapping[str, Mapping[Column, Cell]]
    character_error_rates: Mapping[Column, float]
    comparisons: tuple[Comparison, ...]
    readings: tuple[Reading, ...] = field(default=(), compare=False, repr=False)

    @classmethod
    def build(
        cls,
        labels: Mapping[str, Sequence[str]],
        predictions: Mapping[str, Mapping[Column, Sequence[str]]],
        *,
        keys: Mapping[str, Sequence[str]] | None = None,
        confidences: Mapping[str, Mapping[Column, Sequence[float]]] | None = None,
        protocol: Protocol = "36",
    ) -> BenchmarkTable:
        """Score the readings of every set.

        Args:
            labels: by set, one string a word.
            predictions: by set, then reader: one reading a word, in the labels' order. The same readers in every set.
            keys: by set, the words' names in their source; their 1-based numbers by default.
            confidences: of the readings, as these are ordered; of the readers that have them.

        Raises: ValueError for no sets, an empty set, or sets that differ in readers or length.
        """
        if not labels:
            raise ValueError("there is no benchmark set to score")
        columns = tuple(predictions[next(iter(labels))])
        readings: list[Reading] = []
        cells: dict[str, dict[Column, Cell]] = {}
        for name, truths in labels.items():
            if not truths:
                raise ValueError(f"the benchmark set {name} is empty: it has no word that can be scored")
            if tuple(predictions[name]) != columns:
                raise ValueError(f"set {name} was read by other readers than {next(iter(labels))}")
            cells[name] = {c: _score(predictions[name][c], truths, protocol) for c in columns}
            names = keys[name] if keys else [str(row + 1) for row in range(len(truths))]
            for row, (key, truth) in enumerate(zip(names, truths, strict=True)):
                sure = {c: values[row] for c, values in confidences[name].items()} if confidences else {}
                readings.append(Reading(name, row, key, truth, {c: predictions[name][c][row] for c in columns}, sure))

        truths = [r.label for r in readings]
        rates = {c: character_error_rate([r.by_column[c] for r in readings], truths, protocol) for c in columns}
        comparisons = tuple(
            Comparison(a, b, mcnemar(_correct(readings, a, protocol), _correct(readings, b, protocol)))
            for a, b in _pairs(columns)
        )
        return cls(protocol, columns, cells, rates, comparisons, tuple(readings))

    @property
    def num_words(self) -> int:
        return sum(self.cells[name][self.columns[0]].count for name in self.cells)

    def weighted(self, column: Column) -> tuple[float, float]:
        """Accuracy over all words, in [0, 1], and its standard error."""
        cells = [by_column[column] for by_column in self.cells.values()]
        accuracy = weighted_mean([c.accuracy for c in cells], [c.count for c in cells])
        return accuracy, standard_error(accuracy, self.num_words)

    def plain(self, column: Column) -> tuple[float, float]:
        """Mean of the sets' accuracies, in [0, 1], and the standard error that follows from theirs."""
        cells = [by_column[column] for by_column in self.cells.values()]
        error = math.hypot(*(c.standard_error for c in cells)) / len(cells)
        return plain_mean([c.accuracy for c in cells]), error

    def ned(self, column: Column) -> float:
        """Edit similarity over all words, in [0, 1]."""
        cells = [by_column[column] for by_column in self.cells.values()]
        return weighted_mean([c.ned_similarity for c in cells], [c.count for c in cells])

    def to_markdown(self) -> str:
        """A headline with protocol and counts, the table, and a line for every paired test."""
        sets = "1 set" if len(self.cells) == 1 else f"{len(self.cells)} sets"
        rows = [["set", "words", *(c.title for c in self.columns)]]
        for name, by_column in self.cells.items():
            shares = [_percent(by_column[c].accuracy, by_column[c].standard_error) for c in self.columns]
            rows.append([name, str(by_column[self.columns[0]].count), *shares])
        rows.append(["weighted mean", str(self.num_words), *(_percent(*self.weighted(c)) for c in self.columns)])
        rows.append(["plain mean", sets, *(_percent(*self.plain(c)) for c in self.columns)])
        rows.append(["1 − NED", "", *(f"{100 * self.ned(c):.2f}" for c in self.columns)])
        rates = [f"{100 * self.character_error_rates[c]:.2f}" for c in self.columns]
        rows.append(["character error rate", "", *rates])
        lines = [
            "Word accuracy, % ± standard error. "
            f"Protocol: {_PROTOCOLS[self.protocol]}. {self.num_words} words in {sets}.",
            "",
            *markdown_rows(rows),
        ]
        if self.comparisons:
            lines += ["", *(f"- {c.to_text()}" for c in self.comparisons)]
        return "\n".join(lines) + "\n"

    def to_json(self) -> str:
        """Everything but the readings; shares in [0, 1]. ``from_json`` reads it back."""
        return json.dumps(self.to_tree(), indent=2, ensure_ascii=False) + "\n"

    def to_tree(self) -> dict[str, Any]:
        """What ``to_json`` writes."""
        return {
            "protocol": self.protocol,
            "num_words": self.num_words,
            "columns": [c.key for c in self.columns],
            "sets": {
                name: {c.key: _cell_tree(cell) for c, cell in by_column.items()}
                for name, by_column in self.cells.items()
            },
            "weighted_mean": {c.key: _share_tree(*self.weighted(c)) for c in self.columns},
            "plain_mean": {c.key: _share_tree(*self.plain(c)) for c in self.columns},
            "character_error_rate": {c.key: rate for c, rate in self.character_error_rates.items()},
            "mcnemar": [
                {
                    "first": c.first.key,
                    "second": c.second.key,
                    "only_first": c.test.only_first,
                    "only_second": c.test.only_second,
                    "p": c.test.p,
                }
                for c in self.comparisons
            ],
        }

    @classmethod
    def from_json(cls, text: str) -> BenchmarkTable:
        """Raises: ValueError if the text is not what ``to_json`` writes."""
        try:
            tree = json.loads(text)
            cells = {
                name: {
                    Column.parse(key): Cell(cell["num_correct"], cell["count"], cell["ned_similarity"])
                    for key, cell in by_column.items()
                }
                for name, by_column in tree["sets"].items()
            }
            comparisons = tuple(
                Comparison(
                    Column.parse(c["first"]),
                    Column.parse(c["second"]),
                    McNemar(c["only_first"], c["only_second"], c["p"]),
                )
                for c in tree["mcnemar"]
            )
            rates = {Column.parse(key): rate for key, rate in tree["character_error_rate"].items()}
            columns = tuple(Column.parse(key) for key in tree["columns"])
            return cls(tree["protocol"], columns, cells, rates, comparisons)
        except (KeyError, TypeError, AttributeError, json.JSONDecodeError) as error:
            raise ValueError(f"this is not the JSON of a benchmark table: {error!r}") from error

    def write_predictions(self, path: str | Path) -> None:
        """One row a word, as ``readings.write_readings`` has it.

        Raises: ValueError for a table without readings, as read back from JSON.
        """
        write_readings(path, self.readings, self.protocol)

    def write(self, folder: str | Path) -> None:
        """``table.md``, ``table.json`` and ``predictions.parquet`` in the folder, which is made where it is missing."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "table.md").write_text(self.to_markdown(), encoding="utf-8")
        (folder / "table.json").write_text(self.to_json(), encoding="utf-8")
        self.write_predictions(folder / "predictions.parquet")


def _pairs(columns: Sequence[Column]) -> list[tuple[Column, Column]]:
    students = [c for c in columns if c.role == "student_low_res"]
    enlarged = [c for c in columns if c.role in ("teacher_enlarged", "two_stage")]
    return [(s, t) for s in students for t in enlarged] + list(combinations(students, 2))


def _score(predictions: Sequence[str], truths: Sequence[str], protocol: Protocol) -> Cell:
    similarity = ned_similarity(predictions, truths, protocol)
    num_correct = sum(is_correct(p, t, protocol) for p, t in zip(predictions, truths, strict=True))
    return Cell(num_correct, len(truths), similarity)


def _correct(readings: Sequence[Reading], column: Column, protocol: Protocol) -> list[bool]:
    return [r.is_correct(column, protocol) for r in readings]


def _percent(share: float, error: float) -> str:
    return f"{100 * share:.2f} ± {100 * error:.2f}"


def _share_tree(accuracy: float, error: float) -> dict[str, float]:
    return {"accuracy": accuracy, "standard_error": error}


def _cell_tree(cell: Cell) -> dict[str, float]:
    counts = {"num_correct": cell.num_correct, "count": cell.count}
    return {**counts, **_share_tree(cell.accuracy, cell.standard_error), "ned_similarity": cell.ned_similarity}


def markdown_rows(rows: Sequence[Sequence[str]]) -> list[str]:
    """Padded so that the table is legible as plain text too; the first column left, the others right-aligned."""
    rows = [[cell.replace("|", "\\|") for cell in row] for row in rows]
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]

    def line(row: Sequence[str]) -> str:
        cells = [row[0].ljust(widths[0]), *(cell.rjust(w) for cell, w in zip(row[1:], widths[1:], strict=True))]
        return "| " + " | ".join(cells) + " |"

    ruler = "|" + "-" * (widths[0] + 2) + "|" + "|".join("-" * (w + 1) + ":" for w in widths[1:]) + "|"
    return [line(rows[0]), ruler, *(line(row) for row in rows[1:])]
