"""What changes while a run trains: weights and temperatures of the loss, and learning rates, at shares of its length.

Written as text, so that a command line, a YAML file and a tracking server have it alike:
``25% objective.soft_logits=40.0 optim.learning_rate=0.0001``.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

# Terms of the loss. One that was not computed has no projection to go on with.
WEIGHTS = frozenset(
    f"objective.{name}"
    for name in ("visual_focus", "semantic_contrast", "soft_logits", "cross_entropy", "guidance", "auxiliary_heads")
)
# What a step reads anew each time. Everything else decides what a run is made of, or what it has already prepared.
CHANGEABLE = WEIGHTS | {
    "objective.soft_temperature",
    "objective.decoupled_target",
    "objective.decoupled_others",
    "objective.contrast_temperature",
    "objective.sequence_mix",
    "objective.sequence_threshold",
    "objective.num_paths",
    "objective.branching",
    "objective.log_prob_floor",
    "objective.num_permutations",
    "optim.learning_rate",
    "optim.fast_learning_rate",
    "optim.clip_norm",
}
_EXPECTED = "expected such as '25% objective.soft_logits=40 optim.learning_rate=1e-4'"


@dataclass(frozen=True)
class Change:
    """New values from a share of the run's length on.

    Attributes:
        percent: of the run's steps that are trained before it, in (0, 100).
        values: by dotted field.
    """

    percent: float
    values: Mapping[str, float]

    def step(self, num_steps: int) -> int:
        """The first step, from 0, that is trained with it."""
        return step_at(self.percent, num_steps)

    def to_text(self) -> str:
        share = int(self.percent) if self.percent == int(self.percent) else self.percent
        return " ".join([f"{share}%", *(f"{name}={value!r}" for name, value in self.values.items())])


def step_at(percent: float, num_steps: int) -> int:
    """How many of a run's steps are the share of its length."""
    return round(percent * num_steps / 100)


def parse_change(text: str) -> Change:
    """Raises: ValueError for text that is no change, a share outside (0, 100), or a field that cannot change."""
    share, *assignments = text.split() or [""]
    found = re.fullmatch(r"([\d.e+-]+)%", share)
    percent = _number(found.group(1)) if found else None
    if percent is None or not assignments:
        raise ValueError(f"the change {text!r} cannot be read, {_EXPECTED}")
    if not 0 < percent < 100:
        raise ValueError(f"the change {text!r} comes at {percent:g} % of the run, expected between 0 and 100")
    values: dict[str, float] = {}
    for assignment in assignments:
        name, _, given = assignment.partition("=")
        value = _number(given)
        if value is None:
            raise ValueError(f"the change {text!r} has {assignment!r}, {_EXPECTED}")
        if name not in CHANGEABLE:
            raise ValueError(
                f"the change {text!r} names {name!r}, which cannot change while a run trains; what can: "
                f"{', '.join(sorted(CHANGEABLE))}"
            )
        values[name] = value
    return Change(percent, values)


def parse_changes(texts: Iterable[str]) -> tuple[Change, ...]:
    """Raises: ValueError as ``parse_change``, or if one does not come after the one before it."""
    changes = tuple(parse_change(text) for text in texts)
    for earlier, later in itertools.pairwise(changes):
        if later.percent <= earlier.percent:
            raise ValueError(
                f"the change at {later.percent:g} % is given after the one at {earlier.percent:g} %; give them in order"
            )
    return changes


def schedule_of(recipe: Mapping[str, Any]) -> list[tuple[float, dict[str, Any]]]:
    """(percent of a run's length, the values from there on), from 0 on.

    Args:
        recipe: dotted fields of a run's config and their first values, with "changes" or without.

    Raises: ValueError as ``parse_changes``.
    """
    points = [(0.0, {name: value for name, value in recipe.items() if name != "changes"})]
    for change in parse_changes(recipe.get("changes", ())):
        points.append((change.percent, {**points[-1][1], **change.values}))
    return points


def _number(text: str) -> int | float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    if not math.isfinite(value):
        return None
    return int(text) if re.fullmatch(r"[+-]?\d+", text) else value
