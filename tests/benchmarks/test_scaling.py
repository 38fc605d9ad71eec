"""How a training step scales."""

from __future__ import annotations

import pytest

from benchmarks.scaling import all_reduce_seconds


@pytest.mark.parametrize(
    ("num_bytes", "num_workers", "gigabits", "seconds"),
    [
        (1e9, 1, 25.0, 0.0),  # nobody to exchange with
        (1e9, 2, 8.0, 1.0),  # half of them out and half in again, at a gigabyte a second
        (1e8, 8, 25.0, 2 * 7 / 8 * 0.1 / 3.125),
    ],
)
def test_a_ring_sends_all_but_its_own_part_twice(
    num_bytes: float, num_workers: int, gigabits: float, seconds: float
) -> None:
    assert all_reduce_seconds(num_bytes, num_workers, gigabits) == pytest.approx(seconds)
