"""A sweep's trials and the space they were drawn from, as plain values: what pictures, report and importances share."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

from kdltr_core.metrics import standard_error

State = Literal["FINISHED", "PRUNED", "FAILED"]


@dataclass(frozen=True)
class Trial:
    """One point of the space, trained to its end or until something stopped it.

    Attributes:
        number: from 0, in the order in which the trials began.
        params: dotted field name → value, of every parameter of the space.
        value: best validation accuracy, in %; None where nothing was read.
        state: PRUNED was stopped for being behind, FAILED stopped with an error.
        curve: (step, validation accuracy in %), in order.
        error: what stopped a failed trial.
        seconds: it took.
        is_published: whether this is the point that the sweep has to beat.

    Raises: ValueError for an unknown state, an accuracy outside 0 … 100, or a finished trial without one.
    """

    number: int
    params: Mapping[str, Any]
    value: float | None
    state: State
    curve: Sequence[tuple[int, float]] = ()
    error: str = ""
    seconds: float = math.nan
    is_published: bool = False

    def __post_init__(self) -> None:
        if self.state not in get_args(State):
            raise ValueError(f"trial {self.number} is {self.state!r}, expected one of {', '.join(get_args(State))}")
        if self.value is None and self.state == "FINISHED":
            raise ValueError(f"trial {self.number} is FINISHED without an accuracy; without one it is FAILED")
        if self.value is not None and not 0 <= self.value <= 100:
            raise ValueError(f"trial {self.number} has accuracy {self.value}, expected per cent, 0 … 100")

    @property
    def accuracy(self) -> float | None:
        """``value``, or the best of the curve where a trial was stopped before it had one."""
        return self.value if self.value is not None else max((v for _, v in self.curve), default=None)


@dataclass(frozen=True)
class Parameter:
    """One searched field: a range, or choices.

    Raises: ValueError for neither or both, an empty range, or a log scale from 0 or below.
    """

    name: str
    low: float | None = None
    high: float | None = None
    log: bool = False
    is_integer: bool = False
    choices: tuple[Any, ...] = ()

    def __post_init__(self) -> None:
        has_range = self.low is not None and self.high is not None
        if has_range == bool(self.choices):
            raise ValueError(f"{self.name} needs a range from low to high, or choices, and not both")
        if has_range and not self.low < self.high:  # type: ignore[operator]
            raise ValueError(f"{self.name} has an empty range, {self.low} … {self.high}; low must be below high")
        if has_range and self.log and self.low <= 0:  # type: ignore[operator]
            raise ValueError(f"{self.name} is searched on a log scale from {self.low}; that needs a low above 0")

    def to_text(self) -> str:
        if self.choices:
            return "one of " + ", ".join(short(c) for c in self.choices)
        scale = (", whole numbers" if self.is_integer else "") + (", log scale" if self.log else "")
        return f"{short(self.low)} … {short(self.high)}{scale}"


@dataclass(frozen=True)
class Importance:
    """How much a parameter had to do with which trials came out at the top.

    Attributes:
        name: of the parameter.
        share: of the importance of all parameters, in [0, 1].
        chance: the share that this one would have, the others as they are, with the figure that the first of all
            reaches in one of twenty sweeps in which none mattered; in [0, 1].
        is_beyond_chance: whether its own figure is larger than that one.

    Raises: ValueError for a share or chance outside 0 … 1.
    """

    name: str
    share: float
    chance: float
    is_beyond_chance: bool

    def __post_init__(self) -> None:
        for field, value in (("share", self.share), ("chance", self.chance)):
            if not 0 <= value <= 1:
                raise ValueError(f"{self.name} has the {field} {value}, expected a share of all, 0 … 1")


def short(value: Any) -> str:
    """A parameter's value as pictures and tables have it."""
    return f"{value:.4g}" if isinstance(value, float) else str(value) or "(empty)"


def finished(trials: Sequence[Trial]) -> list[Trial]:
    """Trials that ran to their end, best first; of equals, the earlier first."""
    done = [t for t in trials if t.state == "FINISHED"]
    return sorted(done, key=lambda t: (-(t.value or 0.0), t.number))


def noise_note(trials: Sequence[Trial], num_words: int) -> str:
    """One or two sentences on how little the best trial's lead may mean.

    Args:
        trials: all of the sweep.
        num_words: of the validation split; one standard error of a share p of M words is sqrt(p (1 - p) / M).
    """
    ranked = finished(trials)
    if not ranked:
        return "No trial ran to its end."
    best, others = ranked[0], ranked[1:]
    error = 100 * standard_error((best.value or 0.0) / 100, num_words)
    note = (
        f"Trial {best.number} reads {best.value:.2f} % of {num_words:,} validation words; "
        f"one standard error there is {error:.2f} points"
    )
    if not others:
        return note + "."
    near = sum((best.value or 0.0) - (t.value or 0.0) <= error for t in others)
    return (
        f"{note}, and {near} of the {len(others)} other finished trials are within that of it. "
        "The best of several is flattered by chance: believe it after a confirmation with new seeds and other words."
    )
