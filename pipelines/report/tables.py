"""Tables of a report, as plain data: accuracies, paired tests, confusions, harm, calibration."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from kdltr_core.evaluation.harm import HarmMatrix
from kdltr_core.evaluation.significance import signed
from kdltr_core.evaluation.table import BenchmarkTable, Column, WordResult
from pipelines.report.analysis import Confusion
from pipelines.report.contents import ReportContents

SHOWN_CONFUSIONS = 15


@dataclass(frozen=True)
class TableCell:
    """What a cell shows, what it is sorted by (None: its text), its CSS classes, and what stands behind it in small."""

    text: str
    value: float | None = None
    kind: str = ""
    detail: str = ""


@dataclass(frozen=True)
class ReportTable:
    """Rows of one length under their heads.

    Attributes:
        label: what it is, for those who cannot see it.
    """

    label: str
    heads: Sequence[str]
    rows: Sequence[Sequence[TableCell]]


def number(value: float | None, form: str = "{:.2f}", detail: str = "", kind: str = "") -> TableCell:
    """Right-aligned; None is a dash that is sorted last."""
    shown = "–" if value is None else form.format(value).replace("-", "−")
    return TableCell(shown, -1e308 if value is None else value, f"number {kind}".strip(), detail)


def accuracy_table(report: ReportContents) -> ReportTable:
    """One row a reader; the best of those that read low_res is bold in every column."""
    table = report.table
    accuracies = {c: _accuracies(table, c) for c in report.columns}
    of_low = [accuracies[c] for c in report.columns if c.image != "high_res"]
    best = [max(place)[0] for place in zip(*of_low, strict=True)]
    rows = []
    for reader in report.readers:
        column = reader.column
        row = [TableCell(text) for text in (column.title, reader.recognizer, reader.method)]
        row.append(number(None if reader.parameters is None else reader.parameters / 1e6))
        for place, (accuracy, error) in enumerate(accuracies[column]):
            kind = "best" if column.image != "high_res" and accuracy == best[place] else ""
            row.append(number(100 * accuracy, detail=f" ± {100 * error:.2f}", kind=kind))
        row += [number(100 * table.ned(column)), number(100 * table.character_error_rates[column])]
        rows.append(row)
    heads = ["reader", "recognizer", "method", "parameters, M"]
    heads += [f"{name} ({next(iter(scores.values())).count})" for name, scores in table.scores.items()]
    heads += [f"weighted mean ({table.num_words})", "plain mean", "1 − NED", "CER"]
    return ReportTable("word accuracy of every reader on every set", heads, rows)


def pairs_table(report: ReportContents) -> ReportTable:
    """Exact McNemar tests of all pairs."""
    rows = [
        [
            TableCell(pair.first.title),
            TableCell(pair.second.title),
            number(pair.test.only_first, "{:d}"),
            number(pair.test.only_second, "{:d}"),
            number(100 * (pair.test.only_first - pair.test.only_second) / len(report.words), "{:+.2f}"),
            number(pair.test.p, "{:.2g}" if pair.test.p else "< 1e-300"),
        ]
        for pair in report.pairs
    ]
    heads = ["A", "B", "only A correct", "only B correct", "difference, points", "p"]
    return ReportTable("paired tests of every two readers", heads, rows)


def confusions_table(report: ReportContents) -> ReportTable:
    """The most frequent differences of all readers together."""
    by_reader = [report.confusions[c].counts for c in report.columns]
    total: Counter[Confusion] = sum(by_reader, start=Counter())
    rows = [
        [
            TableCell(f"{pair[0] or '∅'} → {pair[1] or '∅'}", kind="word"),
            *(number(counts[pair], "{:d}") for counts in by_reader),
            number(count, "{:d}"),
        ]
        for pair, count in sorted(total.items(), key=lambda item: (-item[1], item[0]))[:SHOWN_CONFUSIONS]
    ]
    heads = ["label → prediction", *(c.title for c in report.columns), "all"]
    return ReportTable("most frequent confusions", heads, rows)


def harm_table(matrix: HarmMatrix) -> ReportTable:
    """A row a kind of text; red: behind by more than chance, pale red: behind."""
    rows = []
    for text in matrix.texts:
        row = [TableCell(text)]
        for image in matrix.images:
            cell = matrix.cell(text, image)
            kind = "" if cell is None else "harm" if cell.is_surely_behind else "behind" if cell.is_behind else ""
            gain = cell.gain if cell else None
            detail = f" ({signed(gain.low)} … {signed(gain.high)})" if gain else ""
            row.append(number(gain.points if gain else None, "{:+.2f}", detail, kind))
        rows.append(row)
    return ReportTable("student minus enlarged teacher, by text and low resolution", ["text", *matrix.images], rows)


def calibration_table(report: ReportContents) -> ReportTable:
    rows = [
        [
            TableCell(column.title),
            number(100 * report.table.weighted(column)[0]),
            number(100 * found.confidence),
            number(100 * found.error),
            number(100 * report.uncalibrated[column].error if column in report.uncalibrated else None),
        ]
        for column, found in report.calibrations.items()
    ]
    heads = ["reader", "accuracy, %", "mean confidence, %", "ECE, points", "ECE without temperature"]
    return ReportTable("calibration", heads, rows)


def prediction_cell(report: ReportContents, word: WordResult, column: Column) -> TableCell:
    """What one reader made of one word, and its confidence."""
    right = word.is_correct(column, report.table.protocol)
    read = word.predictions[column]
    text = f"{'✓' if right else '✗'} {_printable(read.text) or '(nothing)'}"
    return TableCell(text, kind="word right" if right else "word wrong", detail=f" {100 * read.confidence:.0f}")


def _accuracies(table: BenchmarkTable, column: Column) -> list[tuple[float, float]]:
    """With their standard errors: of every set, then the weighted and the plain mean."""
    scores = [of_set[column] for of_set in table.scores.values()]
    return [*((s.accuracy, s.standard_error) for s in scores), table.weighted(column), table.plain(column)]


def _printable(text: str) -> str:
    return "".join(c if c.isprintable() else "·" for c in text)
