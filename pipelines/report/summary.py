"""What an evaluation came to, for people: two lines and the table in Markdown, and the accuracies as bars."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from kdltr_core.config import Trained
from kdltr_core.data.pack import Pack
from kdltr_core.evaluation.harm import HarmMatrix
from kdltr_core.evaluation.table import BenchmarkTable, Column, markdown_rows
from pipelines.report.examples import draw_examples, in_fixed_order
from pipelines.report.harm_files import write_matrix
from pipelines.report.plots import COLOURS, GREY, INK, style_axes

SUMMARY_FILE = "summary.md"
_NUM_EXAMPLES = 6


def write_evaluation(
    folder: str | Path,
    table: BenchmarkTable,
    packs: Mapping[str, Pack],
    trained: Trained = "student",
    matrix: HarmMatrix | None = None,
) -> None:
    """The table's files, ``summary.md``, ``accuracy.png`` and ``examples.png`` in the folder, made where missing.

    With a matrix also those of ``write_matrix``.
    """
    folder = Path(folder)
    table.write(folder)
    summary = result_markdown(table, trained)
    if matrix is not None:
        write_matrix(folder, matrix)
        summary += f"\n{matrix.to_markdown()}"
    (folder / SUMMARY_FILE).write_text(summary, encoding="utf-8")
    draw_bars(folder / "accuracy.png", table)
    draw_examples(folder / "examples.png", table, packs)


def headline_metrics(table: BenchmarkTable, trained: Trained = "student") -> dict[str, float]:
    """In per cent over all words: the ``accuracy`` of what was trained on the images it is for.

    Of a student also its ``gain_over_enlarged``: over the teacher that reads enlarged images, where there is one.
    """
    own, enlarged = trained_column(table, trained), _enlarged(table)
    found = {"accuracy": 100 * table.weighted(own)[0]}
    if enlarged is not None and trained == "student":
        found["gain_over_enlarged"] = found["accuracy"] - 100 * table.weighted(enlarged)[0]
    return found


def result_markdown(table: BenchmarkTable, trained: Trained = "student") -> str:
    """The result in two lines, the table, and words that only the student reads."""
    own, enlarged = trained_column(table, trained), _enlarged(table)
    found = headline_metrics(table, trained)
    words = f"{table.num_words:,} words"
    first = f"The {trained} reads **{found['accuracy']:.1f} %** of {words} from {own.image} images"
    lines = [f"{first}."]
    if "gain_over_enlarged" in found and enlarged is not None:
        (test,) = [c.test for c in table.comparisons if c.first == own and c.second == enlarged]
        lines = [
            f"{first}: **{found['gain_over_enlarged']:+.1f} points** against the teacher on the same images, enlarged "
            f"({100 * table.weighted(enlarged)[0]:.1f} %).",
            f"Only the student is correct on {test.only_first:,} words, only the teacher on {test.only_second:,}; "
            f"p = {test.p:.2g} (exact McNemar test).",
        ]
        only = in_fixed_order(table, table.correct[own] & ~table.correct[enlarged])[:_NUM_EXAMPLES]
        rows = [["label", own.title, enlarged.title]]
        for word in only:
            texts = (word.label, word.predictions[own].text, word.predictions[enlarged].text)
            rows.append([f"`{text}`" if text else "" for text in texts])
        if only:
            heading = "**Only the student is correct:**"
            return "\n".join([*lines, "", table.to_markdown(), heading, "", *markdown_rows(rows), ""])
    return "\n".join([*lines, "", table.to_markdown()])


def draw_bars(path: str | Path, table: BenchmarkTable) -> None:
    """A PNG: the word accuracy of every reader on every set and on all words, with one standard error."""
    names = [*table.scores, "all words"] if len(table.scores) > 1 else list(table.scores)
    figure = Figure(figsize=(max(6.5, 1.5 + 0.55 * len(names) * len(table.columns)), 3.6), layout="constrained")
    axes, width = figure.subplots(), 0.8 / len(table.columns)
    for number, column in enumerate(table.columns):
        cells = [(s[column].accuracy, s[column].standard_error) for s in table.scores.values()]
        values, errors = 100 * np.array([*cells, table.weighted(column)][: len(names)]).T
        places = np.arange(len(names)) + width * (number - (len(table.columns) - 1) / 2)
        bars = axes.bar(places, values, 0.92 * width, yerr=errors, color=COLOURS[number % len(COLOURS)],
                        label=column.title, ecolor=GREY, capsize=2)  # fmt: skip
        axes.bar_label(bars, fmt="%.1f", fontsize=8, color=INK, padding=2)
    style_axes(axes)
    axes.set_axisbelow(True)
    axes.grid(visible=False, axis="x")
    axes.set(ylim=(0, 108), yticks=range(0, 101, 20))
    axes.set_xticks(range(len(names)), names, color=INK)
    axes.set_title("word accuracy, %", loc="left", fontsize=11, color=INK)
    axes.legend(frameon=False, fontsize=8.5, ncols=2, loc="upper center", bbox_to_anchor=(0.5, -0.1))
    figure.savefig(path, dpi=130)


def trained_column(table: BenchmarkTable, trained: Trained = "student") -> Column:
    """Of what was trained (the first of several), on the images it is for."""
    role = "student_low_res" if trained == "student" else "teacher_high_res"
    return next((c for c in table.columns if c.role == role), table.columns[0])


def _enlarged(table: BenchmarkTable) -> Column | None:
    return next((c for c in table.columns if c.role == "teacher_enlarged"), None)
