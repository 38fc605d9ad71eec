"""Accuracy of words of one length, and of one height of the picture they were cut from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from kdltr_core.metrics import standard_error

LENGTHS = (1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 13)
HEIGHTS = (1, 16, 24, 32, 48, 64, 96)


@dataclass(frozen=True)
class Group:
    """Words of like size; ``label`` says which, accuracy and standard error are in [0, 1]."""

    label: str
    count: int
    accuracy: float

    @property
    def error(self) -> float:
        return standard_error(self.accuracy, self.count)


def group_by(sizes: Sequence[int], correct: np.ndarray, starts: Sequence[int]) -> list[Group]:
    """Accuracy by size; groups without a word are left out.

    Args:
        sizes: N whole numbers; those below the first start belong to no group.
        correct: (N,) bool.
        starts: least size of each group, ascending; the last group has no end.
    """
    values = np.asarray(sizes)
    groups = []
    ends = [*starts[1:], None]
    for start, end in zip(starts, ends, strict=True):
        here = (values >= start) & (values < end) if end is not None else values >= start
        if here.any():
            groups.append(Group(_label(start, end), int(here.sum()), float(correct[here].mean())))
    return groups


def _label(start: int, end: int | None) -> str:
    if end is None:
        return f"≥ {start}"
    return str(start) if end == start + 1 else f"{start}–{end - 1}"
