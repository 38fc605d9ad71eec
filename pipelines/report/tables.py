"""The report's tables: accuracies, published figures, paired tests, confusions, readings."""

from __future__ import annotations

from html import escape

import numpy as np

from kdltr_core.charset import fold
from kdltr_core.evaluation.table import Column, PairedComparison
from pipelines.report.analysis import LOOK_ALIKES
from pipelines.report.contents import Evidence
from pipelines.report.elements import Cell, number, share, table, text
from pipelines.report.published import NOTICE, ROWS, SETS

SHOWN_READINGS = 500
READINGS_A_PAGE = 25
SHOWN_CONFUSIONS = 30


def main_table(evidence: Evidence) -> str:
    """One row a reader; the best of those that read low_res is bold in every column."""
    benchmark = evidence.table
    heads = ["reader", "recognizer", "method", "MAC, G", "parameters, M", "ms a word"]
    heads += [f"{name} ({next(iter(cells.values())).count})" for name, cells in benchmark.scores.items()]
    heads += [f"weighted mean ({benchmark.num_words})", "plain mean", "1 − NED", "CER"]
    low = [c for c in evidence.columns if c.image != "high_res"]
    best_of_set = {n: max((cells[c].accuracy for c in low), default=2) for n, cells in benchmark.scores.items()}
    best_weighted = max((benchmark.weighted(c)[0] for c in low), default=2)
    best_plain = max((benchmark.plain(c)[0] for c in low), default=2)
    rows = []
    for column in evidence.columns:
        note = evidence.note(column)

        def marked(accuracy: float, error: float, best: float, column: Column = column) -> Cell:
            return share(accuracy, error, "best" if column in low and accuracy == best else "")

        row = [text(column.title), text(note.recognizer), text(note.method)]
        row += [
            number(_scaled(note.multiply_accumulates, 1e9)),
            number(_scaled(note.parameters, 1e6)),
            number(note.milliseconds, "{:.1f}"),
        ]
        row += [
            marked(cells[column].accuracy, cells[column].standard_error, best_of_set[name])
            for name, cells in benchmark.scores.items()
        ]
        row += [marked(*benchmark.weighted(column), best_weighted), marked(*benchmark.plain(column), best_plain)]
        row += [number(100 * benchmark.ned(column)), number(100 * benchmark.character_error_rates[column])]
        rows.append(row)
    return table(heads, rows, label="word accuracy of every reader on every set")


def published_table() -> str:
    """The paper's own figures, under their notice."""
    heads = ["recognizer", "method", "MAC, G", "parameters, M", *(f"TextZoom {name}" for name in SETS), "weighted mean"]
    rows = [
        [
            text(row.recognizer),
            text(row.method),
            number(row.multiply_accumulates or None),
            number(row.parameters or None),
            *(number(value) for value in row.by_set or (None,) * len(SETS)),
            number(row.mean),
        ]
        for row in ROWS
    ]
    return (
        f'<aside class="notice"><h3>{NOTICE[0].upper()}{NOTICE[1:]}</h3>'
        '<p class="quiet">Word accuracy in per cent as Guo et al. 2023 (arXiv 2308.02770) print it, on words that are '
        "not those above. The distances between its rows can be compared with those above; the rows cannot.</p>"
        f"{table(heads, rows, label=NOTICE)}</aside>"
    )


def pairs_table(evidence: Evidence) -> str:
    """Exact McNemar tests of all pairs."""
    heads = ["reader", "beside", "right alone", "wrong alone", "difference, points", "p"]
    rows = [
        [
            text(pair.first.title),
            text(pair.second.title),
            number(pair.test.only_first, "{:d}"),
            number(pair.test.only_second, "{:d}"),
            number(_points(pair, len(evidence.readings)), "{:+.2f}"),
            number(pair.test.p, "{:.2g}" if pair.test.p else "< 1e-300"),
        ]
        for pair in evidence.pairs
    ]
    return table(heads, rows, label="paired tests of every two readers", kind="fit")


def look_alikes_table(evidence: Evidence) -> str:
    """Known look-alikes, both directions together; those that nobody confused are left out."""
    rows = []
    for first, second in LOOK_ALIKES:
        counts = [evidence.confusions[c].either_way(first, second) for c in evidence.columns]
        if any(counts):
            rows.append([Cell(f'<span class="word">{first} / {second}</span>'), *(number(n, "{:d}") for n in counts)])
    if not rows:
        return '<p class="quiet">No reader took one of the usual look-alikes for the other.</p>'
    return table(["either for the other", *(c.title for c in evidence.columns)], rows, label="look-alikes", kind="fit")


def confusions_table(evidence: Evidence) -> str:
    """The most frequent differences of all readers together."""
    found = evidence.confusions
    total = sum((found[c].counts for c in evidence.columns), start=type(found[evidence.columns[0]].counts)())
    rows = [
        [
            Cell(f'<span class="word">{escape(there) or "∅"} → {escape(seen) or "∅"}</span>'),
            *(number(found[c].counts[there, seen], "{:d}") for c in evidence.columns),
            number(count, "{:d}"),
        ]
        for (there, seen), count in sorted(total.items(), key=lambda item: (-item[1], item[0]))[:SHOWN_CONFUSIONS]
    ]
    if not rows:
        return '<p class="quiet">There is no confusion to show.</p>'
    heads = ["label → reading", *(c.title for c in evidence.columns), "all"]
    return table(heads, rows, page_size=10, label="most frequent confusions", kind="fit")


def calibration_table(evidence: Evidence) -> str:
    heads = ["reader", "accuracy, %", "mean confidence, %", "ECE, points"]
    rows = [
        [
            text(column.title),
            number(100 * float(evidence.correct[column].mean())),
            number(100 * found.confidence),
            number(100 * found.error),
        ]
        for column, found in evidence.calibrations.items()
    ]
    return table(heads, rows, label="calibration", kind="fit")


def readings_table(evidence: Evidence, seed: int = 0) -> tuple[str, int]:
    """A seeded sample of the words with what everyone read, and how many they are."""
    count = min(SHOWN_READINGS, len(evidence.readings))
    chosen = np.sort(np.random.default_rng(seed).permutation(len(evidence.readings))[:count])
    rows = []
    for place in chosen:
        reading = evidence.readings[place]
        row = [_word(reading.label)]
        for column in evidence.columns:
            right = bool(evidence.correct[column][place])
            sure = reading.confidences.get(column)
            beside = f'<span class="error"> {100 * sure:.0f}</span>' if sure is not None else ""
            shown = f"{'✓' if right else '✗'} {_escaped(reading.predictions[column])}"
            row.append(Cell(f'<span class="word {"right" if right else "wrong"}">{shown}</span>{beside}'))
        rows.append([*row, text(reading.set_name), text(reading.key)])
    heads = ["label", *(c.title for c in evidence.columns), "set", "key"]
    return table(heads, rows, page_size=READINGS_A_PAGE, label="readings"), count


def _word(content: str) -> Cell:
    return Cell(f'<span class="word">{_escaped(content)}</span>')


def _escaped(content: str) -> str:
    if not fold(content, "94"):
        return escape(content) or "<i>nothing</i>"
    return escape("".join(c if c.isprintable() else "·" for c in content))


def _scaled(count: int | None, unit: float) -> float | None:
    return None if count is None else count / unit


def _points(pair: PairedComparison, num_words: int) -> float:
    return 100 * (pair.test.only_first - pair.test.only_second) / num_words
