"""Speeds as JSON and Markdown."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.stopwatch import CallTimes


@dataclass(frozen=True)
class Measured:
    """One thing measured.

    Attributes:
        name: what it is.
        times: of its calls.
        num_items: handled by one call.
        multiply_accumulates: of one call; 0: not counted.
    """

    name: str
    times: CallTimes
    num_items: int
    multiply_accumulates: int = 0


@dataclass(frozen=True)
class SpeedTable:
    """Rows that are compared with the first of them.

    Attributes:
        unit: of the items.
        matrix_rate: multiply-accumulates a second that the device was seen to reach; 0: not measured.
        on_gpu: the device is not the processor, whose own time is then beside the point.
    """

    title: str
    unit: str
    rows: Sequence[Measured]
    matrix_rate: float = 0.0
    on_gpu: bool = False

    def figures(self) -> dict[str, Any]:
        """For JSON; "speed" is that of one item, relative to the first row."""
        rows = [self._figures(row) for row in self.rows]
        return {"title": self.title, "unit": self.unit, "matrix_rate": self.matrix_rate, "rows": rows}

    def _figures(self, row: Measured) -> dict[str, Any]:
        first = self.rows[0]
        lower, median, upper, p95 = np.percentile(row.times.seconds, (25, 50, 75, 95)).tolist()
        seconds = {"median": median, "quartiles": [lower, upper], "p95": p95, "repeats": len(row.times.seconds)}
        processor, processor_first = (float(np.median(each.times.processor_seconds)) for each in (row, first))
        figures = {
            "name": row.name,
            "seconds": seconds,
            "processor_seconds": processor,
            "items": row.num_items,
            "items_per_second": row.num_items / median,
            "speed": first.times.median / first.num_items * row.num_items / median,
            "processor_speed": processor_first / first.num_items * row.num_items / processor,
            "peak_memory_bytes": row.times.memory,
        }
        if row.multiply_accumulates:
            # On a CPU that others use as well, a second of the clock says little of what the device can do.
            rate = row.multiply_accumulates / (median if self.on_gpu else processor)
            figures |= {"flops_per_second": 2 * rate, "fraction_of_matrix_rate": rate / self.matrix_rate}
        return figures

    def markdown(self) -> str:
        """Speeds, processor time and fraction of time are relative to the first row."""
        lines = [f"## {self.title}", ""]
        if self.matrix_rate:
            lines += [f"Matrix rate of the device: {2 * self.matrix_rate / 1e9:,.0f} GFLOP/s.", ""]
        lines += [
            f"| | ms (quartiles) | {self.unit}/s | speed | by processor time | time | of matrix rate | peak MiB |",
            "|---|---:|---:|---:|---:|---:|---:|---:|",
        ]
        for row in self.figures()["rows"]:
            lower, upper = row["seconds"]["quartiles"]
            rate, fraction = row["items_per_second"], row.get("fraction_of_matrix_rate")
            cells = [
                row["name"],
                f"{1000 * row['seconds']['median']:.2f} ({1000 * lower:.2f}–{1000 * upper:.2f})",
                f"{rate:,.0f}" if rate >= 100 else f"{rate:.3g}",  # a slow step is not 0 images a second
                f"{row['speed']:,.2f}×",
                f"{row['processor_speed']:,.2f}×",
                f"{1 / row['speed']:.1%}",
                f"{fraction:.1%}" if fraction else "",
                f"{row['peak_memory_bytes'] / 2**20:,.0f}",
            ]
            lines.append("| " + " | ".join(cells) + " |")
        return "\n".join(lines) + "\n"


def tell(folder: Path, name: str, figures: Any, page: str) -> None:
    """Print a page of Markdown, and leave it in the folder beside its figures as JSON."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.json").write_text(json.dumps(figures, indent=2) + "\n")
    (folder / f"{name}.md").write_text(page)
    print(page)


def tell_speeds(folder: Path, name: str, about: str, machine: dict[str, object], tables: Sequence[SpeedTable]) -> None:
    """As ``tell``, of the tables measured on a machine; ``about`` is what precedes them."""
    where = ", ".join(f"{name} {value}" for name, value in machine.items())
    figures = {"machine": machine, "sections": [table.figures() for table in tables]}
    tell(folder, name, figures, "\n".join([f"{about}\n\n{where}\n", *(table.markdown() for table in tables)]))
