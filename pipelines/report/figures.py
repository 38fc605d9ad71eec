"""Figures of a report: charts and images as data URIs, and the words that only one of two readers reads."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Mapping
from typing import Literal, NamedTuple

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

from kdltr_core.data.pack import Pairs
from kdltr_core.evaluation.calibration import Calibration
from kdltr_core.evaluation.table import BenchmarkTable, WordResult
from pipelines.report.contents import ReportContents
from pipelines.report.examples import OutcomeGroup, group_words
from pipelines.report.plots import COLOURS, GREY, style_axes

WORDS_A_SIDE = 8
MOST_STUDENTS = 6


class Chart(NamedTuple):
    """A chart under its title; ``source`` is a data URI."""

    title: str
    source: str


def draw_chart(title: str, draw: Callable[[Axes], None], *, height: float = 3.1) -> Chart:
    """An SVG without ground, whose text stays text.

    Args:
        draw: receives the axes.
        height: in inches, at 100 pixels each.
    """
    figure = Figure(figsize=(4.6, height), layout="constrained")
    draw(figure.subplots())
    buffer = io.BytesIO()
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": title}):
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    return Chart(title, _data_uri("svg+xml", buffer))


def embed(pixels: np.ndarray, kind: Literal["png", "jpeg"]) -> str:
    """(H, W, 3) uint8 as a data URI: PNG where it is to be exact."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind, quality=90, optimize=True)
    return _data_uri(kind, buffer)


def word_images(word: WordResult, packs: Mapping[str, Pairs]) -> tuple[str, str]:
    """high_res and low_res as data URIs."""
    high_res, low_res = (i[0].numpy().transpose(1, 2, 0) for i in packs[word.set_name].gather(np.array([word.row])))
    return embed(high_res, "jpeg"), embed(low_res, "png")


def reliability_charts(report: ReportContents) -> list[Chart]:
    """One panel a reader."""
    return [
        draw_chart(
            column.title,
            lambda axes, c=column, found=found: _draw_reliability(  # type: ignore[misc]
                axes, found, report.uncalibrated.get(c), report.columns.index(c)
            ),
            height=3.4,
        )
        for column, found in report.calibrations.items()
    ]


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


def _draw_reliability(axes: Axes, found: Calibration, before: Calibration | None, place: int) -> None:
    colour = COLOURS[place % len(COLOURS)]
    confidences, accuracies, counts = (
        np.array([getattr(b, name) for b in found.bins]) for name in ("confidence", "accuracy", "count")
    )
    axes.plot([0, 100], [0, 100], color=GREY, linewidth=1, linestyle=":")
    if before is not None:
        points = [(100 * b.confidence, 100 * b.accuracy) for b in before.bins]
        axes.plot(*zip(*points, strict=True), "--", color=colour, alpha=0.5, linewidth=1.2, label="without temperature")
    # The bars at the bottom say how many words have that confidence.
    axes.bar(100 * confidences, 18 * counts / counts.max(), width=4, color=colour, alpha=0.25, linewidth=0)
    axes.plot(100 * confidences, 100 * accuracies, "-o", color=colour, linewidth=2, markersize=4)
    axes.set(xlim=(-2, 102), ylim=(-2, 102), xticks=range(0, 101, 20), yticks=range(0, 101, 20))
    style_axes(axes)
    axes.set_xlabel("confidence, %", color=GREY)
    axes.set_ylabel("right, %", color=GREY)


def _data_uri(kind: str, content: io.BytesIO) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(content.getvalue()).decode()}"
