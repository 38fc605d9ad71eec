"""What a drill measured."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Measured:
    """A row of the table.

    Attributes:
        fault: what happened.
        steps_again: steps that had been trained and had to be trained again.
        seconds: the longest time after it in which no step was trained for the first time.
        weights: how the final weights differ from those of an uncorrupted run.
    """

    fault: str
    steps_again: int
    seconds: float
    weights: str
