"""Latency and throughput follow from the times of the calls."""

from __future__ import annotations

import pytest

from benchmarks.reading_table import ReadingTimes, to_markdown
from pipelines.measurement.stopwatch import Timing


def test_figures_are_those_of_the_calls() -> None:
    """Three calls of 4 images in 1, 2 and 3 s, beside three that take 0.5 s each."""
    times = ReadingTimes(
        1, 4, {"slow": Timing([3.0, 1.0, 2.0], [1.0, 1.0, 4.0]), "fast": Timing([0.5] * 3, [0.25] * 3)}
    )
    slow, fast = times.figures()
    assert (slow["median_seconds"], slow["calls"], slow["speed"], slow["processor_speed"]) == (2.0, 3, 1.0, 1.0)
    assert slow["p95_seconds"] == pytest.approx(2.9)
    assert (slow["images_per_second"], fast["images_per_second"]) == (2.0, 8.0)
    assert (fast["speed"], fast["processor_speed"]) == (4.0, 4.0)
    table = to_markdown([times], {"device": "desk"}, "12 crops.")
    assert "## Batch 4, one thread, 3 calls each, in turns" in table
    assert "| slow | 500.00 | 725.00 | 2.0 | 1.00× | 250.00 | 1.00× |" in table
    assert "| fast | 125.00 | 125.00 | 8.0 | 4.00× | 62.50 | 4.00× |" in table
