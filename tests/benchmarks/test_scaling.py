"""How a training step scales."""

from __future__ import annotations

import subprocess
import sys

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


def test_one_and_two_workers_are_measured_and_the_model_is_worked_out() -> None:
    words = ("--pairs", "2", "--repeats", "1", "--step-seconds", "0.05", "--gpus", "8")
    command = [sys.executable, "-m", "benchmarks.scaling", *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    rows = [line.split("|")[1:-1] for line in done.stdout.splitlines() if line.startswith("| ")]
    measured = [[cell.strip() for cell in row] for row in rows if len(row) == 4][1:]
    assert [row[0] for row in measured] == ["1", "2"]
    assert measured[0][3] == "1.00"
    model = [[cell.strip() for cell in row] for row in rows if len(row) == 6][1:]
    assert [(row[1], row[2]) for row in model] == [
        ("25", "float32"),
        ("25", "bfloat16"),
        ("100", "float32"),
        ("100", "bfloat16"),
    ]
    assert float(model[0][4]) == pytest.approx(2 * float(model[1][4]), abs=0.2)
