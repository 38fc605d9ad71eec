"""The report's charts: robustness, length and height, reliability."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from kdltr_core.evaluation.corruptions import SEVERITIES, Corruption
from kdltr_core.evaluation.robustness import RobustnessCurves, severity_label
from kdltr_core.evaluation.table import Column
from pipelines.report.by_size import Group
from pipelines.report.calibration import Calibration
from pipelines.report.contents import Evidence
from pipelines.report.elements import chart, legend
from pipelines.report.plots import COLOURS, GREY, INK, draw_shares, style_axes

_TITLES = {
    "gaussian_blur": "Gaussian blur",
    "gaussian_noise": "Gaussian noise",
    "jpeg_quality": "JPEG compression",
    "motion_blur": "Motion blur",
    "resolution": "Resolution of the source",
}


def robustness_charts(curves: RobustnessCurves, columns: Sequence[Column]) -> str:
    """One panel a corruption, one legend for all; the readers have the colours that they have among all columns."""
    panels = [
        chart(_TITLES[name], lambda axes, name=name: draw_robustness_panel(curves, axes, name, columns))  # type: ignore[misc]
        for name in AXES
        if name in curves.accuracies
    ]
    return f'{legend({c.title: columns.index(c) for c in curves.columns})}<div class="charts">{"".join(panels)}</div>'


def size_charts(evidence: Evidence) -> str:
    """Accuracy by length and, where the sources are at hand and differ, by native height."""
    panels = [_groups_chart("Word accuracy, %, by length", "characters of the label", evidence.by_length)]
    if any(len(groups) > 1 for groups in evidence.by_height.values()):
        title = "Word accuracy, %, by native height"
        panels.append(_groups_chart(title, "rows of the picture before it was resized", evidence.by_height))
    return f'{legend({c.title: i for i, c in enumerate(evidence.columns)})}<div class="charts">{"".join(panels)}</div>'


def reliability_charts(calibrations: Mapping[Column, Calibration], columns: Sequence[Column]) -> str:
    """One panel a reader, in the colours that the readers have elsewhere."""
    panels = [
        chart(column.title, lambda axes, c=column, found=found: _reliability(axes, found, columns.index(c)), height=3.4)  # type: ignore[misc]
        for column, found in calibrations.items()
    ]
    return f'<div class="charts">{"".join(panels)}</div>'


def _groups_chart(title: str, axis: str, groups: Mapping[Column, Sequence[Group]]) -> str:
    labels = [g.label for g in next(iter(groups.values()))]
    counts = [g.count for g in next(iter(groups.values()))]

    def draw(axes: Axes) -> None:
        for place, of_one in enumerate(groups.values()):
            draw_shares(axes, place, range(len(labels)), [g.accuracy for g in of_one], [g.error for g in of_one])
        axes.set_xticks(range(len(labels)))
        axes.set_xticklabels([f"{label}\n{count}" for label, count in zip(labels, counts, strict=True)], fontsize=8)
        style_axes(axes)
        axes.set_xlabel(f"{axis}; below: words", color=GREY)

    return chart(title, draw, height=3.2)


def _reliability(axes: Axes, found: Calibration, place: int) -> None:
    colour = COLOURS[place % len(COLOURS)]
    most = max(b.count for b in found.bins)
    axes.plot([0, 100], [0, 100], color=GREY, linewidth=1, linestyle=":")
    # The bars at the bottom say how many words are that sure.
    axes.bar(
        [100 * b.confidence for b in found.bins],
        [18 * b.count / most for b in found.bins],
        width=4, color=colour, alpha=0.25, linewidth=0,
    )  # fmt: skip
    axes.plot(
        [100 * b.confidence for b in found.bins],
        [100 * b.accuracy for b in found.bins],
        "-o", color=colour, linewidth=2, markersize=4,
    )  # fmt: skip
    axes.set(xlim=(-2, 102), ylim=(-2, 102), xticks=range(0, 101, 20), yticks=range(0, 101, 20))
    style_axes(axes)
    axes.set_xlabel("confidence, %", color=GREY)
    axes.set_ylabel("right, %", color=GREY)


AXES: dict[Corruption, str] = {
    "gaussian_blur": "Gaussian blur σ, low_res pixels",
    "gaussian_noise": "Gaussian noise σ, grey levels",
    "jpeg_quality": "JPEG quality",
    "motion_blur": "motion blur, low_res pixels",
    "resolution": "resolution of the picture",
}


def draw_robustness_panel(
    curves: RobustnessCurves, axes: Axes, corruption: Corruption, among: Sequence[Column] = ()
) -> None:
    """One corruption, with bands of one standard error; colours follow the place ``among`` all readers."""
    by_column, severities = curves.accuracies[corruption], SEVERITIES[corruption]
    for column, shares in by_column.items():
        number = (among or curves.columns).index(column)
        draw_shares(axes, number, range(len(severities)), shares, curves.errors(shares))
    axes.set_xticks(range(len(severities)))
    axes.set_xticklabels([severity_label(corruption, severity) for severity in severities])
    style_axes(axes)
    axes.set_xlabel(AXES[corruption], color=GREY)


def write_robustness(curves: RobustnessCurves, folder: str | Path) -> None:
    """``curves.json`` and ``curves.png`` in a folder that is there."""
    text = json.dumps(curves.to_tree(), indent=2, ensure_ascii=False) + "\n"
    (Path(folder) / "curves.json").write_text(text, encoding="utf-8")
    figure = Figure(figsize=(13, 7.4), facecolor="white", layout="constrained")
    FigureCanvasAgg(figure)
    panels = list(figure.subplots(2, 3, sharey=True).flat)
    for axes, name in zip(panels, curves.accuracies, strict=False):
        draw_robustness_panel(curves, axes, name)
    for axes in panels[len(curves.accuracies) :]:
        axes.axis("off")
    figure.legend(
        panels[0].get_lines(),
        [c.title for c in curves.columns],
        loc="lower right",
        frameon=False,
        bbox_to_anchor=(0.98, 0.1),
    )  # fmt: skip
    panels[0].set_title(f"word accuracy, % of {curves.caption}", loc="left", fontsize=11, color=INK)
    figure.savefig(Path(folder) / "curves.png", dpi=110)
