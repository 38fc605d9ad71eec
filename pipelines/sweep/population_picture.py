"""A picture of a population: what each trial read, and how its values moved while it trained."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter

from pipelines.report.plots import COLOURS, GREY, INK, style_axes
from pipelines.sweep.sweep import Parameter, Trial, finished, short

_BEST: dict[str, Any] = {"color": COLOURS[2], "linewidth": 2.6, "zorder": 4, "label": "best"}
_PUBLISHED: dict[str, Any] = {"color": INK, "linewidth": 1.8, "linestyle": "--", "zorder": 3, "label": "published"}
_OTHER: dict[str, Any] = {"color": COLOURS[1], "linewidth": 1.1, "alpha": 0.55, "zorder": 2, "label": "others"}


def draw_population(path: str | Path, trials: Sequence[Trial], space: Sequence[Parameter]) -> None:
    """A panel of accuracies and one for each parameter, over the percent of a trial's length that is trained.

    A line is what its weights went through: where a trial took over another's, it is the other's up to there.

    Args:
        trials: of a population, with one that ran to its end among them; without one nothing is drawn but axes.
        space: what was searched, one parameter at least.
    """
    num_columns = min(1 + len(space), 3)
    num_rows = math.ceil((1 + len(space)) / num_columns)
    figure = Figure(figsize=(4.1 * num_columns, 3.1 * num_rows), facecolor="white", layout="constrained")
    FigureCanvasAgg(figure)
    panels = list(figure.subplots(num_rows, num_columns, squeeze=False).flat)
    num_steps = max((step for trial in trials for step, _ in trial.curve), default=0) or 1
    best = next(iter(finished(trials)), None)
    for trial in trials:
        style = _BEST if trial is best else _PUBLISHED if trial.is_published else _OTHER
        if trial is best and trial.is_published:
            style = {**style, "label": "best: the published point"}
        shares = [100 * step / num_steps for step, _ in trial.curve]
        panels[0].plot(shares, [accuracy for _, accuracy in trial.curve], **style)
        schedule = trial.schedule
        starts = [share for share, _ in schedule]
        end = max([*shares, *starts])
        for axes, parameter in zip(panels[1:], space, strict=False):
            values = [_height(parameter, point[parameter.name]) for _, point in schedule]
            axes.step([*starts, end], [*values, values[-1]], where="post", **style)
    panels[0].set_title("validation accuracy, %", loc="left", fontsize=11, color=INK)
    for axes, parameter in zip(panels[1:], space, strict=False):
        _scale(axes, parameter)
        axes.set_title(parameter.name, loc="left", fontsize=11, color=INK)
    shown = panels[: 1 + len(space)]
    for axes in shown:
        style_axes(axes)
        axes.set_xlim(0, 100)
        if axes.get_legend() is not None:
            axes.get_legend().remove()
    for axes in shown[-num_columns:]:
        axes.set_xlabel("trained, %", color=GREY)
    for axes in panels[1 + len(space) :]:
        axes.set_visible(False)
    handles, labels = panels[0].get_legend_handles_labels()
    named = dict(zip(labels, handles, strict=True))
    figure.legend(named.values(), named.keys(), loc="outside lower left", ncols=3, frameon=False, labelcolor=INK)
    figure.savefig(path, dpi=130)


def _height(parameter: Parameter, value: Any) -> float:
    """A choice is as high as its place among the choices; one that is none of them lies below."""
    if not parameter.choices:
        return float(value)
    return float(parameter.choices.index(value)) if value in parameter.choices else -1.0


def _scale(axes: Axes, parameter: Parameter) -> None:
    if parameter.choices:
        axes.set_yticks(range(len(parameter.choices)), [short(choice) for choice in parameter.choices])
    elif parameter.log:
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_major_formatter("{x:g}")
        axes.yaxis.set_minor_formatter(NullFormatter())
    elif parameter.is_integer:
        axes.yaxis.set_major_locator(MaxNLocator(integer=True, nbins=6))
