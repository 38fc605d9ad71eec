"""Pictures of a sweep: its history, a panel a parameter, and what mattered."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator, NullFormatter

from kdltr_core.metrics import standard_error
from pipelines.report.plots import COLOURS, GREY, INK, RULE, style_axes
from pipelines.sweep.parallel_coordinates import draw_parallel_coordinates
from pipelines.sweep.sweep import Importance, Parameter, State, Trial, finished, short

BLUE, ORANGE = COLOURS[1], COLOURS[2]
RED = "#c8102e"
_ACCURACY = "validation accuracy, %"
_LABELS: dict[State, str] = {"FINISHED": "finished", "PRUNED": "pruned", "FAILED": "failed"}
_MARKS: dict[State, dict[str, Any]] = {
    "FINISHED": {"marker": "o", "color": BLUE, "markeredgecolor": "white", "markersize": 7},
    "PRUNED": {"marker": "v", "color": GREY, "markerfacecolor": "white", "markersize": 6},
    "FAILED": {"marker": "x", "color": RED, "markersize": 7, "markeredgewidth": 2},
}
_BEST: dict[str, Any] = {"marker": "*", "color": ORANGE, "markeredgecolor": "white", "markersize": 17}
_PUBLISHED: dict[str, Any] = {"marker": "D", "color": "none", "markeredgecolor": INK, "markersize": 11}


def draw_sweep(
    folder: str | Path,
    trials: Sequence[Trial],
    space: Sequence[Parameter],
    importances: Sequence[Importance],
    *,
    num_words: int,
) -> list[Path]:
    """``history.png``, ``parallel_coordinates.png``, ``slices.png`` and ``importances.png``.

    Returns: their paths; none where there is no trial to draw.

    Args:
        folder: is there.
        trials: of the sweep; failed ones lie at the foot of a picture.
        space: what was searched, one parameter at least.
        importances: none where there were too few trials to tell.
        num_words: of the validation split.
    """
    if not trials:
        return []
    folder = Path(folder)
    names = ("history", "parallel_coordinates", "slices", "importances")
    history, parallel, slices, last = paths = [folder / f"{name}.png" for name in names]
    draw_history(history, trials, num_words=num_words)
    draw_parallel_coordinates(parallel, trials, space)
    draw_slices(slices, trials, space)
    draw_importances(last, importances)
    return paths


def draw_history(path: str | Path, trials: Sequence[Trial], *, num_words: int) -> None:
    """Accuracy by trial, the best so far, and one standard error of the best on ``num_words`` validation words."""
    figure = _figure(11, 4.2)
    axes = figure.subplots()
    numbers = [t.number for t in trials]
    _scatter(axes, trials, numbers)
    room = max(0.5, 0.02 * len(trials))
    first, last = min(numbers) - room, max(numbers) + room
    ranked = finished(trials)
    if ranked:
        done = sorted(ranked, key=lambda t: t.number)
        best_so_far = [max(_height(t) for t in done[: i + 1]) for i in range(len(done))]
        axes.step(
            [*(t.number for t in done), last], [*best_so_far, best_so_far[-1]], where="post", color=ORANGE,
            linewidth=1.8, label="best so far", zorder=1,
        )  # fmt: skip
        best = _height(ranked[0])
        error = 100 * standard_error(best / 100, num_words)
        axes.axhspan(
            best - error, best + error, color=ORANGE, alpha=0.1, linewidth=0, zorder=0,
            label=f"± one standard error\n({num_words:,} words)",
        )  # fmt: skip
        title = f"best: trial {ranked[0].number}, {best:.2f} ± {error:.2f} %"
    else:
        title = "no trial ran to its end"
    axes.set_xlim(first, last)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axes.set_xlabel("trial", color=GREY)
    axes.set_title(f"{_ACCURACY}; {title}", loc="left", fontsize=11, color=INK)
    _legend_aside(figure, [axes])
    figure.savefig(path, dpi=130)


def draw_slices(path: str | Path, trials: Sequence[Trial], space: Sequence[Parameter]) -> None:
    """Accuracy by the value of each parameter; the axis is logarithmic where the search was."""
    num_columns = min(len(space), 4)
    num_rows = math.ceil(len(space) / num_columns)
    figure = _figure(max(2.9 * num_columns + 2, 6), 3.2 * num_rows)
    panels = list(figure.subplots(num_rows, num_columns, sharey=True, squeeze=False).flat)
    for axes, parameter in zip(panels, space, strict=False):
        values = [t.params[parameter.name] for t in trials]
        if parameter.choices:
            names = list(dict.fromkeys(short(v) for v in (*parameter.choices, *values)))
            _scatter(axes, trials, [names.index(short(v)) for v in values])
            axes.set_xticks(range(len(names)), names)
            axes.set_xlim(-0.5, len(names) - 0.5)
        else:
            _scatter(axes, trials, values)
            if parameter.log and min(values) > 0:
                axes.set_xscale("log")
                axes.xaxis.set_major_formatter("{x:g}")
                axes.xaxis.set_minor_formatter(NullFormatter())
            if parameter.is_integer:
                axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=6))
            for edge in (parameter.low, parameter.high):
                axes.axvline(edge, color=RULE, linewidth=1.5, linestyle=(0, (2, 2)), zorder=0)
        axes.set_xlabel(parameter.name, color=INK)
    for axes in panels[len(space) :]:
        axes.set_visible(False)
    for axes in panels[: len(space) : num_columns]:
        axes.set_ylabel(_ACCURACY, color=GREY)
    _legend_aside(figure, panels[: len(space)])
    figure.savefig(path, dpi=130)


def draw_importances(path: str | Path, importances: Sequence[Importance]) -> None:
    """Shares as bars, each with a mark at what chance would give it; grey where a bar stays below that."""
    figure = _figure(8, 1.3 + 0.42 * max(len(importances), 2))
    axes = figure.subplots()
    axes.set_title("importance, % of all parameters'", loc="left", fontsize=11, color=INK)
    if not importances:
        axes.text(0.5, 0.5, "too few trials to tell", color=GREY, ha="center", va="center", transform=axes.transAxes)
        axes.axis("off")
    else:
        places = range(len(importances))
        colours = [BLUE if i.is_beyond_chance else RULE for i in importances]
        axes.barh(places, [100 * i.share for i in importances], color=colours, height=0.6)
        axes.plot(
            [100 * i.chance for i in importances], places, color=INK, linestyle="none", marker="|", markersize=24,
            markeredgewidth=1.8, clip_on=False, label="by chance: how long a bar would be with what the first has in "
            "one of twenty shuffled sweeps",
        )  # fmt: skip
        axes.set_yticks(places, [i.name for i in importances])
        axes.set(xlim=(0, 100), ylim=(len(importances) - 0.5, -0.5))
        _legend_aside(figure, [axes], below=True)
        axes.grid(visible=False, axis="y")
        axes.tick_params(axis="y", colors=INK, length=0)
    figure.savefig(path, dpi=130)


def _figure(width: float, height: float) -> Figure:
    figure = Figure(figsize=(width, height), facecolor="white", layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def _height(trial: Trial) -> float:
    return trial.accuracy if trial.accuracy is not None else math.nan


def _scatter(axes: Axes, trials: Sequence[Trial], places: Sequence[float]) -> None:
    """A mark a trial at its accuracy, at the foot of the axes where it failed or nothing was read of it."""
    ranked = finished(trials)
    for trial, place in zip(trials, places, strict=True):
        is_read = trial.state != "FAILED" and trial.accuracy is not None
        ground: dict[str, Any] = {} if is_read else {"transform": axes.get_xaxis_transform(), "clip_on": False}
        height = _height(trial) if is_read else 0.0
        is_best = bool(ranked) and trial is ranked[0]
        mark, label = (_BEST, "best") if is_best else (_MARKS[trial.state], _LABELS[trial.state])
        axes.plot(place, height, linestyle="none", label=label, zorder=4 if is_best else 3, **mark, **ground)
        if trial.is_published:
            axes.plot(place, height, linestyle="none", label="published point", zorder=5, **_PUBLISHED, **ground)
    axes.margins(x=0.08, y=0.12)


def _legend_aside(figure: Figure, panels: Sequence[Axes], *, below: bool = False) -> None:
    """Styles the panels and gives all of them one legend, in which each mark is named once."""
    named: dict[str, Line2D] = {}
    for axes in panels:
        style_axes(axes)
        legend = axes.get_legend()
        if legend is not None:
            legend.remove()
        handles, labels = axes.get_legend_handles_labels()
        named |= dict(zip(labels, handles, strict=True))
    figure.legend(
        named.values(), named.keys(), loc="outside lower left" if below else "outside right upper", frameon=False,
        fontsize=9, labelcolor=INK, labelspacing=0.9,
    )  # fmt: skip
