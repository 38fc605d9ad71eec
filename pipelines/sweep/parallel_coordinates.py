"""A sweep's trials as lines across the axes of its parameters."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LinearSegmentedColormap, Normalize
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from pipelines.report.plots import COLOURS, GREY, INK, RULE
from pipelines.sweep.sweep import Parameter, Trial, finished, short

_SCALE = LinearSegmentedColormap.from_list("accuracy", ["#bcd9f5", COLOURS[1], "#0a2a52"])
_BEST, _FAILED = COLOURS[2], "#c8102e"


def draw_parallel_coordinates(path: str | Path, trials: Sequence[Trial], space: Sequence[Parameter]) -> None:
    """One line a trial through its values, darker for more accuracy; the best orange, pruned dashed, failed dotted.

    The last axis is the accuracy; the line of a failed trial ends before it.
    """
    read = [t.accuracy for t in trials if t.state != "FAILED" and t.accuracy is not None]
    low, high = (min(read), max(read)) if read else (0.0, 100.0)
    if low == high:
        low, high = low - 0.5, high + 0.5
    ranked = finished(trials)
    worst, best = (ranked[-1].accuracy or 0.0, ranked[0].accuracy or 0.0) if ranked else (low, high)
    scale = Normalize(worst, best)
    columns = [_Column(parameter, [t.params[parameter.name] for t in trials]) for parameter in space]
    columns.append(_Column(Parameter("validation\naccuracy, %", low, high), []))

    figure = Figure(figsize=(max(1.75 * len(columns) + 1, 6), 4.8), facecolor="white", layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    for trial in trials:
        heights = [column.height(trial.params[column.parameter.name]) for column in columns[:-1]]
        look: dict[str, Any] = {"color": _FAILED, "linestyle": (0, (1, 2)), "linewidth": 1.2, "zorder": 2}
        if trial.state != "FAILED" and trial.accuracy is not None:
            heights.append(columns[-1].height(trial.accuracy))
            look = {"color": _SCALE(scale(trial.accuracy)), "linewidth": 1.6, "zorder": 3 + trial.accuracy / 101}
        if trial.state == "PRUNED":
            look |= {"color": GREY, "linestyle": (0, (4, 2)), "linewidth": 0.9, "zorder": 1}
        if ranked and trial is ranked[0]:
            look |= {"color": _BEST, "linewidth": 2.8, "zorder": 5}
        axes.plot(range(len(heights)), heights, marker="o", markersize=3, **look)
        if trial.is_published:
            axes.plot(range(len(heights)), heights, color=INK, linewidth=1.2, zorder=6)
    for place, column in enumerate(columns):
        axes.plot([place, place], [0, 1], color=GREY, linewidth=1, zorder=4)
        for text, height in column.ticks():
            axes.annotate(
                text, (place, height), xytext=(-5, 0), textcoords="offset points", ha="right", va="center", fontsize=8,
                color=INK, zorder=7, bbox={"facecolor": "white", "alpha": 0.75, "edgecolor": "none", "pad": 0.8},
            )  # fmt: skip
    axes.set_xticks(range(len(columns)), [c.parameter.name.replace(".", ".\n", 1) for c in columns], color=INK)
    axes.set(xlim=(-0.45, len(columns) - 0.9), ylim=(-0.04, 1.04), yticks=[])
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    _add_keys(figure, trials, ScalarMappable(scale, _SCALE) if worst < best and ranked else None)
    figure.savefig(path, dpi=130)


class _Column:
    """An axis of the picture: where a value lies on it, in [0, 1], and what is written beside it."""

    def __init__(self, parameter: Parameter, values: Sequence[Any]) -> None:
        self.parameter = parameter
        self._names = list(dict.fromkeys(short(v) for v in (*parameter.choices, *values)))
        if parameter.low is not None and parameter.high is not None:
            self._ends = min(parameter.low, *values, math.inf), max(parameter.high, *values, -math.inf)
            self._log = parameter.log and self._ends[0] > 0

    def height(self, value: Any) -> float:
        if self.parameter.choices:
            return (self._names.index(short(value)) + 0.5) / len(self._names)
        low, high = self._ends
        if self._log:
            return math.log(value / low) / math.log(high / low)
        return (value - low) / (high - low)

    def ticks(self) -> list[tuple[str, float]]:
        if self.parameter.choices:
            return [(name, (i + 0.5) / len(self._names)) for i, name in enumerate(self._names)]
        marks = np.geomspace(*self._ends, 5) if self._log else np.linspace(*self._ends, 5)
        if self.parameter.is_integer:
            marks = np.unique(marks.round())
        return [(f"{mark:.3g}", self.height(mark)) for mark in marks]


def _add_keys(figure: Figure, trials: Sequence[Trial], colours: ScalarMappable | None) -> None:
    """What colours and dashes mean, as far as they occur."""
    states = {t.state for t in trials}
    keys = {
        "best": Line2D([], [], color=_BEST, linewidth=2.8) if "FINISHED" in states else None,
        "published point": Line2D([], [], color=INK, linewidth=1.2) if any(t.is_published for t in trials) else None,
        "pruned": Line2D([], [], color=GREY, linestyle=(0, (4, 2)), linewidth=1) if "PRUNED" in states else None,
        "failed": Line2D([], [], color=_FAILED, linestyle=(0, (1, 2))) if "FAILED" in states else None,
    }
    shown = {name: line for name, line in keys.items() if line is not None}
    figure.legend(
        shown.values(), shown.keys(), loc="outside upper left", ncols=4, frameon=False, fontsize=9, labelcolor=INK
    )
    if colours is not None:
        bar = figure.colorbar(colours, ax=figure.axes[0], pad=0.01, fraction=0.02)
        bar.outline.set_edgecolor(RULE)
        bar.ax.tick_params(colors=GREY, labelsize=8)
