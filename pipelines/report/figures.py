"""Figures of a report: charts and images as data URIs, and the words that only one of two readers reads."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping
from typing import Literal

import numpy as np
from matplotlib import rc_context
from matplotlib.figure import Figure
from PIL import Image

from kdltr_core.data.pack import Pairs
from kdltr_core.evaluation.table import BenchmarkTable, Column, WordResult
from pipelines.report.contents import ReportContents
from pipelines.report.examples import OutcomeGroup, group_words
from pipelines.report.plots import COLOURS, GREY, style_axes

WORDS_A_SIDE = 8
MOST_STUDENTS = 6


def embed(pixels: np.ndarray, kind: Literal["png", "jpeg"]) -> str:
    """(H, W, 3) uint8 as a data URI: PNG where it is to be exact."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind, quality=90, optimize=True)
    return _data_uri(kind, buffer)


def word_images(word: WordResult, packs: Mapping[str, Pairs]) -> tuple[str, str]:
    """high_res and low_res as data URIs."""
    high_res, low_res = (i[0].numpy().transpose(1, 2, 0) for i in packs[word.set_name].gather(np.array([word.row])))
    return embed(high_res, "jpeg"), embed(low_res, "png")


def reliability_chart(report: ReportContents, column: Column) -> str:
    """How often a reader is right at each confidence: an SVG without ground, whose text stays text, as a data URI."""
    figure, buffer = Figure(figsize=(4.6, 3.4), layout="constrained"), io.BytesIO()
    axes, colour = figure.subplots(), COLOURS[report.columns.index(column) % len(COLOURS)]
    confidences, accuracies, counts = (
        np.array([getattr(b, name) for b in report.calibrations[column].bins])
        for name in ("confidence", "accuracy", "count")
    )
    axes.plot([0, 100], [0, 100], color=GREY, linewidth=1, linestyle=":")
    if before := report.uncalibrated.get(column):
        points = [(100 * b.confidence, 100 * b.accuracy) for b in before.bins]
        axes.plot(*zip(*points, strict=True), "--", color=colour, alpha=0.5, linewidth=1.2, label="without temperature")
    # The bars at the bottom say how many words have that confidence.
    axes.bar(100 * confidences, 18 * counts / counts.max(), width=4, color=colour, alpha=0.25, linewidth=0)
    axes.plot(100 * confidences, 100 * accuracies, "-o", color=colour, linewidth=2, markersize=4)
    axes.set(xlim=(-2, 102), ylim=(-2, 102), xticks=range(0, 101, 20), yticks=range(0, 101, 20))
    style_axes(axes)
    axes.set_xlabel("confidence, %", color=GREY)
    axes.set_ylabel("right, %", color=GREY)
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": column.title}):
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    return _data_uri("svg+xml", buffer)


def word_groups(table: BenchmarkTable) -> list[OutcomeGroup]:
    """Both sides of every student, of so many, beside the enlarged teacher; without one, beside the others in turn."""
    students = [c for c in table.columns if c.role == "student_low_res"][:MOST_STUDENTS]
    beside = [c for c in table.columns if c.role == "teacher_enlarged"]
    beside += [c for c in table.columns if c.role == "two_stage"]
    pairs = [(s, beside[0]) for s in students] if beside else [(students[0], other) for other in students[1:]]
    outcomes = {
        f"Only {first.title} is correct, not {second.title}": table.correct[first] & ~table.correct[second]
        for first, second in (pair for a, b in pairs for pair in ((a, b), (b, a)))
    }
    return group_words(table, outcomes, WORDS_A_SIDE)


def _data_uri(kind: str, content: io.BytesIO) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(content.getvalue()).decode()}"
