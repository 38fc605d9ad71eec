"""Latency and throughput of readers, as JSON and Markdown."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pipelines.measurement.stopwatch import Timing


@dataclass(frozen=True)
class ReadingTimes:
    """One setting, and how long each reader took for the same calls, by its title; the first is compared with."""

    num_threads: int
    batch_size: int
    timings: dict[str, Timing]

    def figures(self) -> list[dict[str, Any]]:
        """One entry a reader; seconds are those of a call, speeds those of the medians relative to the first."""
        first = next(iter(self.timings.values()))
        return [
            {
                "threads": self.num_threads,
                "batch": self.batch_size,
                "reader": title,
                "calls": len(timing.seconds),
                "median_seconds": timing.median,
                "p95_seconds": float(np.percentile(timing.seconds, 95)),
                "images_per_second": self.batch_size * len(timing.seconds) / sum(timing.seconds),
                "speed": first.median / timing.median,
                "processor_seconds": float(np.median(timing.processor_seconds)),
                "processor_speed": float(np.median(first.processor_seconds) / np.median(timing.processor_seconds)),
            }
            for title, timing in self.timings.items()
        ]


def to_markdown(settings: Sequence[ReadingTimes], machine: dict[str, object], crops: str) -> str:
    """One table a setting."""
    lines = ["# Speed of reading", "", ", ".join(f"{name} {value}" for name, value in machine.items()), "", crops]
    for setting in settings:
        threads = "one thread" if setting.num_threads == 1 else f"{setting.num_threads} threads"
        calls = len(next(iter(setting.timings.values())).seconds)
        lines += [
            "",
            f"## Batch {setting.batch_size}, {threads}, {calls} calls each, in turns",
            "",
            "| | median ms an image | p95 | images/s | speed | processor ms an image | speed by processor time |",
            "|---|---:|---:|---:|---:|---:|---:|",
        ]
        for row in setting.figures():
            per_image = 1000 / setting.batch_size
            cells = (
                row["reader"],
                f"{per_image * row['median_seconds']:.2f}",
                f"{per_image * row['p95_seconds']:.2f}",
                f"{row['images_per_second']:.1f}",
                f"{row['speed']:.2f}×",
                f"{per_image * row['processor_seconds']:.2f}",
                f"{row['processor_speed']:.2f}×",
            )
            lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"
