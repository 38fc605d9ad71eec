"""The report's figures as Markdown, for those who read it beside code."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from kdltr_core.evaluation.corruptions import SEVERITIES
from kdltr_core.evaluation.robustness import severity_label
from kdltr_core.evaluation.table import Column, markdown_rows
from pipelines.report.analysis import LOOK_ALIKES
from pipelines.report.by_size import Group
from pipelines.report.contents import Evidence
from pipelines.report.figures import AXES
from pipelines.report.published import NOTICE, ROWS, SETS


def to_markdown(evidence: Evidence) -> str:
    """Tables without pictures, in the order of the page."""
    parts = [f"# {evidence.title}", evidence.table.to_markdown().strip(), _readers(evidence), _published()]
    parts += [_pairs(evidence), _robustness(evidence), _look_alikes(evidence)]
    parts += [_groups("Accuracy by characters of the label, %", evidence.by_length)]
    parts += [_groups("Accuracy by rows of the native picture, %", evidence.by_height), _calibration(evidence)]
    return "\n\n".join(part for part in parts if part) + "\n"


def _readers(evidence: Evidence) -> str:
    rows = [["reader", "recognizer", "method", "MAC, G", "parameters, M", "ms a word"]]
    for column in evidence.columns:
        note = evidence.note(column)
        rows.append([column.title, note.recognizer, note.method])
        rows[-1] += [_scaled(note.multiply_accumulates, 1e9), _scaled(note.parameters, 1e6)]
        rows[-1] += [f"{note.milliseconds:.1f}" if note.milliseconds is not None else ""]
    return _section("Readers", rows, evidence.times_note)


def _published() -> str:
    rows = [["recognizer", "method", *SETS, "weighted mean"]]
    for row in ROWS:
        by_set = [f"{value:.2f}" for value in row.by_set] or [""] * len(SETS)
        rows.append([row.recognizer, row.method, *by_set, f"{row.mean:.2f}"])
    return _section(NOTICE[0].upper() + NOTICE[1:], rows, "Guo et al. 2023, arXiv 2308.02770.")


def _pairs(evidence: Evidence) -> str:
    rows = [["reader", "beside", "right alone", "wrong alone", "p"]]
    for pair in evidence.pairs:
        test = pair.test
        rows.append([pair.first.title, pair.second.title, str(test.only_first), str(test.only_second), f"{test.p:.2g}"])
    return _section("Paired tests (exact McNemar, two-sided)", rows) if len(rows) > 1 else ""


def _robustness(evidence: Evidence) -> str:
    curves = evidence.curves
    if curves is None:
        return ""
    parts = [f"## Robustness\n\nWord accuracy, %, of {curves.caption}."]
    for name, by_column in curves.accuracies.items():
        rows = [[AXES[name], *(severity_label(name, level) for level in SEVERITIES[name])]]
        rows += [[c.title, *(f"{100 * value:.2f}" for value in values)] for c, values in by_column.items()]
        parts.append(_lines(rows))
    return "\n\n".join(parts)


def _look_alikes(evidence: Evidence) -> str:
    rows = [["either for the other", *(c.title for c in evidence.columns)]]
    for first, second in LOOK_ALIKES:
        counts = [evidence.confusions[c].either_way(first, second) for c in evidence.columns]
        if any(counts):
            rows.append([f"{first} / {second}", *map(str, counts)])
    return _section("Look-alikes", rows) if len(rows) > 1 else ""


def _groups(title: str, groups: Mapping[Column, Sequence[Group]]) -> str:
    if not groups:
        return ""
    first = next(iter(groups.values()))
    rows = [["reader", *(f"{g.label} ({g.count})" for g in first)]]
    rows += [[c.title, *(f"{100 * g.accuracy:.2f}" for g in of_one)] for c, of_one in groups.items()]
    return _section(title, rows)


def _calibration(evidence: Evidence) -> str:
    rows = [["reader", "mean confidence, %", "ECE, points"]]
    rows += [
        [c.title, f"{100 * found.confidence:.2f}", f"{100 * found.error:.2f}"]
        for c, found in evidence.calibrations.items()
    ]
    return _section("Calibration", rows) if len(rows) > 1 else ""


def _section(title: str, rows: Sequence[Sequence[str]], note: str = "") -> str:
    return "\n\n".join(part for part in (f"## {title}", note, _lines(rows)) if part)


def _lines(rows: Iterable[Sequence[str]]) -> str:
    return "\n".join(markdown_rows(list(rows)))


def _scaled(count: int | None, unit: float) -> str:
    return "" if count is None else f"{count / unit:.2f}"
