"""Measurements as JSON and as Markdown tables."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pipelines.measurement.stopwatch import Timing


@dataclass(frozen=True)
class Row:
    """One thing measured.

    Attributes:
        name: what it is.
        timing: of its calls.
        num_items: handled by one call.
        multiply_accumulates: of one call; 0: not counted.
    """

    name: str
    timing: Timing
    num_items: int
    multiply_accumulates: int = 0


@dataclass(frozen=True)
class Section:
    """Rows that are compared with the first of them.

    Attributes:
        unit: of the items.
        matrix_rate: multiply-accumulates a second that the device was seen to reach; 0: not measured.
        on_gpu: the device is not the processor, whose own time is then beside the point.
    """

    title: str
    unit: str
    rows: Sequence[Row]
    matrix_rate: float = 0.0
    on_gpu: bool = False


def to_json(sections: Sequence[Section], machine: dict[str, Any]) -> dict[str, Any]:
    """What was measured, section by section; "speed" is that of one item, relative to the section's first row."""
    return {
        "machine": machine,
        "sections": [
            {
                "title": section.title,
                "unit": section.unit,
                "matrix_rate": section.matrix_rate,
                "rows": [_figures(row, section) for row in section.rows],
            }
            for section in sections
        ],
    }


def _figures(row: Row, section: Section) -> dict[str, Any]:
    seconds, processor_seconds = row.timing.seconds, row.timing.processor_seconds
    lower, median, upper = np.percentile(seconds, (25, 50, 75)).tolist()
    first = section.rows[0]
    per_item, per_item_first = median / row.num_items, first.timing.median / first.num_items
    processor = float(np.median(processor_seconds)) if processor_seconds else 0.0
    processor_first = float(np.median(first.timing.processor_seconds)) if processor_seconds else 0.0
    figures = {
        "name": row.name,
        "seconds": {"median": median, "quartiles": [lower, upper], "repeats": len(seconds)},
        "processor_seconds": processor,
        "items": row.num_items,
        "items_per_second": row.num_items / median,
        "speed": per_item_first / per_item,
        "processor_speed": processor_first / first.num_items * row.num_items / processor if processor else None,
        "peak_memory_bytes": row.timing.memory,
        "memory": row.timing.memory / first.timing.memory if first.timing.memory else None,
    }
    if row.multiply_accumulates:
        # On a CPU that others use as well, a second of the clock says little of what the device can do.
        rate = row.multiply_accumulates / (median if section.on_gpu else processor)
        figures["flops_per_second"] = 2 * rate
        figures["share_of_matrix_rate"] = rate / section.matrix_rate if section.matrix_rate else None
    return figures


def to_markdown(sections: Sequence[Section], machine: dict[str, Any]) -> str:
    """One table a section; speeds, processor time and share of time are relative to the section's first row."""
    lines = ["# Speed", "", ", ".join(f"{name} {value}" for name, value in machine.items())]
    for section, recorded in zip(sections, to_json(sections, machine)["sections"], strict=True):
        lines += ["", f"## {section.title}", ""]
        if section.matrix_rate:
            lines += [f"Matrix rate of the device: {2 * section.matrix_rate / 1e9:,.0f} GFLOP/s.", ""]
        lines += [
            f"| | ms (quartiles) | {section.unit}/s | speed | by processor time | time | of matrix rate | peak MiB |",
            "|---|---:|---:|---:|---:|---:|---:|---:|",
        ]
        lines += [_line(figures) for figures in recorded["rows"]]
    return "\n".join(lines) + "\n"


def _line(figures: dict[str, Any]) -> str:
    lower, upper = figures["seconds"]["quartiles"]
    share = figures.get("share_of_matrix_rate")
    processor_speed = figures["processor_speed"]
    cells = [
        figures["name"],
        f"{1000 * figures['seconds']['median']:.2f} ({1000 * lower:.2f}–{1000 * upper:.2f})",
        _rate(figures["items_per_second"]),
        f"{figures['speed']:,.2f}×",
        f"{processor_speed:,.2f}×" if processor_speed else "",
        f"{1 / figures['speed']:.1%}",
        f"{share:.1%}" if share else "",
        f"{figures['peak_memory_bytes'] / 2**20:,.0f}" if figures["peak_memory_bytes"] else "",
    ]
    return "| " + " | ".join(cells) + " |"


def _rate(rate: float) -> str:
    """Three digits at least: a slow step is not 0 images a second."""
    return f"{rate:,.0f}" if rate >= 100 else f"{rate:.3g}"
