"""The report's charts: robustness, length and height, reliability."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from matplotlib.axes import Axes

from kdltr_core.curves import COLOURS, GREY, draw_shares, style_axes
from kdltr_core.evidence.by_size import Group
from kdltr_core.evidence.calibration import Calibration
from kdltr_core.evidence.elements import chart, legend
from kdltr_core.evidence.gathered import Evidence
from kdltr_core.readings import Column
from kdltr_core.robustness import AXES, RobustnessCurves

_TITLES = {
    "gaussian_blur": "Gaussian blur",
    "gaussian_noise": "Gaussian noise",
    "jpeg_quality": "JPEG compression",
    "motion_blur": "Motion blur",
    "resolution": "Resolution of the source",
}


def robustness_charts(curves: RobustnessCurves, columns: Sequence[Column]) -> str:
    """One panel a disturbance, one legend for all; the readers have the colours that they have among all columns."""
    panels = [
        chart(_TITLES[name], lambda axes, name=name: curves.draw_panel(axes, name, columns))  # type: ignore[misc]
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
