"""The points that a sweep tries before its searcher draws any: the one to beat, the user's own, or a whole grid."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from typing import Any

from kdltr_core.config import RunConfig
from pipelines.sweep.ledger import plain
from tune_spaces.space import Space

# A range is a grid's from its two ends on.
FEWEST_VALUES = 2


def first_points(space: Space, config: RunConfig) -> list[dict[str, Any]]:
    """What the config itself has, then the points that the space names; each once."""
    flat = config.flatten()
    points = [plain({name: flat[name] for name in space.domains}), *(plain(point) for point in space.points)]
    return [point for place, point in enumerate(points) if point not in points[:place]]


def grid_points(space: Space, num_points: int) -> list[dict[str, Any]]:
    """Every combination of all choices and of equally many values of each range, ``num_points`` at most.

    Values of a range lie evenly from one end to the other, on its own scale, and include both.

    Raises: ValueError if so few points make no grid.
    """
    described = space.describe()
    ranges = [name for name, d in described.items() if "choices" not in d]
    num_combinations = math.prod(len(d["choices"]) for d in described.values() if "choices" in d)
    num_values = FEWEST_VALUES
    while ranges and num_combinations * (num_values + 1) ** len(ranges) <= num_points:
        num_values += 1
        if all(len(_values(described[name], num_values)) < num_values for name in ranges):
            break
    fewest = num_combinations * FEWEST_VALUES ** len(ranges)
    if fewest > num_points:
        raise ValueError(
            f"a grid over {space.name} has {fewest} points at least, and beside those tried first there is room for "
            f"{num_points}; give a larger --num-trials, or --search tpe"
        )
    columns = [d["choices"] if "choices" in d else _values(d, num_values) for d in described.values()]
    return [plain(dict(zip(described, values, strict=True))) for values in itertools.product(*columns)]


def _values(described: Mapping[str, Any], num_values: int) -> list[float]:
    low, high = described["low"], described["high"]
    shares = [place / (num_values - 1) for place in range(num_values)]
    values = [low * (high / low) ** s if described["log"] else low + (high - low) * s for s in shares]
    values[-1] = high
    return sorted({round(v) for v in values}) if described["is_integer"] else values
