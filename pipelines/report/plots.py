"""Curves of a training: what its metrics log holds, over steps; and the look of all our curves."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import cycle
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from kdltr_core.losses.objective import is_loss_term
from pipelines.run.metrics_log import read_records

INK, GREY, RULE = "#1f2933", "#6b7785", "#dfe3e8"
COLOURS = ("#1f2933", "#0b6bcb", "#c2570c", "#1a7f37", "#7b3fa0", "#b8860b")


def draw_curves(path: str | Path, metrics_log: str | Path, column: str = "student_low_res") -> None:
    """A training's ``metrics.jsonl`` as a PNG: the loss and its terms, and accuracies, over steps.

    Args:
        column: of what was trained, whose accuracies on the benchmarks are shown.

    Raises: ValueError if the metrics log holds no figures.
    """
    series = read_series(metrics_log)
    losses = {n: s for n, s in series.items() if n == "train/loss" or is_loss_term(n.removeprefix("train/"))}
    accuracies = {n: s for n, s in series.items() if n.startswith("validation/") or n.endswith(f"/{column}")}
    if not losses and not accuracies:
        raise ValueError(f"{metrics_log} holds no loss and no accuracy to draw; is it the metrics.jsonl of a run?")
    figure = Figure(figsize=(11, 4.2), facecolor="white", layout="constrained")
    left, right = figure.subplots(1, 2)
    for colour, (name, (steps, values)) in zip(cycle(COLOURS), losses.items(), strict=False):
        label = name.removeprefix("train/").replace("_", " ")
        left.plot(steps, values, color=colour, linewidth=0.8, alpha=0.25)
        left.plot(steps, _smoothed(values), color=colour, linewidth=2.2 if label == "loss" else 1.5, label=label)
    if any(min(values) > 0 for _, values in losses.values()):
        left.set_yscale("log")
        left.yaxis.set_major_formatter("{x:g}")
    left.set_title("loss (weighted sum) and its terms", loc="left", fontsize=11, color=INK)
    for colour, (name, (steps, values)) in zip(cycle(COLOURS), accuracies.items(), strict=False):
        label = name.removesuffix("/word_accuracy").removesuffix(f"/{column}").removeprefix("benchmark/")
        main = name.startswith("validation/")
        right.plot(
            steps, values, "o-", markersize=4 if main else 3, color=colour, linewidth=2 if main else 1.2, label=label
        )
        if main:
            best = int(np.argmax(values))
            right.annotate(
                f"best {values[best]:.2f} % at step {steps[best]}", (steps[best], values[best]), xytext=(0, 9),
                textcoords="offset points", ha="center", fontsize=9, color=colour,
            )  # fmt: skip
            right.margins(y=0.15)
    right.set_title("word accuracy, %", loc="left", fontsize=11, color=INK)
    for axes in (left, right):
        axes.set_xlabel("step", color=GREY)
        style_axes(axes)
    figure.savefig(path, dpi=130)


def style_axes(axes: Axes) -> None:
    """The look of all our curves; a legend where there is something to name."""
    axes.grid(color=RULE, linewidth=0.8)
    axes.tick_params(colors=GREY)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(RULE)
    if axes.get_legend_handles_labels()[0]:
        axes.legend(frameon=False, fontsize=9)


def read_series(metrics_log: str | Path) -> dict[str, tuple[list[int], list[float]]]:
    """Steps and values of every name in a ``metrics.jsonl``."""
    series: dict[str, tuple[list[int], list[float]]] = {}
    for record in read_records(Path(metrics_log))[0]:
        for name, value in record.metrics.items():
            steps, values = series.setdefault(name, ([], []))
            steps.append(record.step)
            values.append(value)
    return series


def _smoothed(values: Sequence[float]) -> pd.Series:
    """Exponential average over about a sixtieth of the curve, without the bias of its start."""
    finite = pd.Series(values).where(np.isfinite)
    return finite.ewm(alpha=1 / max(len(values) / 60, 1), ignore_na=True).mean()
