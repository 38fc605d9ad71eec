"""How a sweep searches: the points that it tries first, Optuna's sampler for the others, and what is behind."""

from __future__ import annotations

import itertools
import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from optuna.exceptions import ExperimentalWarning
from optuna.pruners import BasePruner, NopPruner, SuccessiveHalvingPruner
from optuna.samplers import BaseSampler, RandomSampler, TPESampler

from kdltr_core.config import RunConfig
from pipelines.sweep.options import SweepOptions
from pipelines.sweep.study import PARTS, as_json
from tune_spaces.space import Space

# A trial is compared with the others after a quarter of its length and after a half; the lower half stops.
GRACE, REDUCTION = PARTS // 4, 2
# A range is a grid's from its two ends on.
FEWEST_VALUES = 2


def points_to_try(space: Space, config: RunConfig, options: SweepOptions) -> list[dict[str, Any]]:
    """What comes before the sampler has its say: the baseline, the space's own points, and all of a grid.

    Raises: ValueError if the trials make no grid.
    """
    points = first_points(space, config)
    return points + (grid_points(space, options.num_trials, beside=points) if options.search == "grid" else [])


def first_points(space: Space, config: RunConfig) -> list[dict[str, Any]]:
    """The baseline, which is what the config itself has, then the points that the space names; each once."""
    flat = config.flatten()
    points = [as_json({name: flat[name] for name in space.domains}), *(as_json(point) for point in space.points)]
    return [point for place, point in enumerate(points) if point not in points[:place]]


def grid_points(space: Space, num_points: int, beside: Sequence[Mapping[str, Any]] = ()) -> list[dict[str, Any]]:
    """Every combination of all choices and of equally many values of each range, but those that are tried anyway.

    Values of a range lie evenly from one end to the other, on its own scale, and include both.

    Args:
        num_points: at most, those of ``beside`` counted.
        beside: what is tried before the grid.

    Raises: ValueError if so few points make no grid.
    """
    described = space.describe()
    fewest, grid = 0, []
    for num_values in range(FEWEST_VALUES, max(num_points, FEWEST_VALUES) + 1):
        columns = [d["choices"] if "choices" in d else _values(d, num_values) for d in described.values()]
        size = math.prod(len(column) for column in columns)  # counted before they are made: there may be very many
        fewest = fewest or size
        if size > num_points:
            break
        finer = [as_json(dict(zip(described, values, strict=True))) for values in itertools.product(*columns)]
        finer = [point for point in finer if point not in beside]
        if len(beside) + len(finer) <= num_points:
            grid = finer
    if not grid:
        raise ValueError(
            f"a grid over {space.name} has {fewest} points at least, and with those tried first there is room for "
            f"{num_points}; give a larger --num-trials, or --search tpe"
        )
    return grid


def sampler_for(options: SweepOptions, seed: int) -> Callable[[int], BaseSampler]:
    """Optuna's sampler for the search, of the number of trials that were known when it began."""

    def sampler(num_known: int) -> BaseSampler:
        fresh = seed + 1000 * num_known  # so that a sweep that resumes does not draw its first points again
        if options.search == "random":
            return RandomSampler(seed=fresh)
        # Random points first; and a trial that still runs counts as poor, so that the next does not try the same. In
        # groups, since a baseline outside the space has no parameters.
        num_random = min(10, max(4, options.num_trials // 3))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)
            return TPESampler(
                seed=fresh, n_startup_trials=num_random, multivariate=True, group=True, constant_liar=True
            )

    return sampler


def pruner_for(options: SweepOptions) -> BasePruner:
    """ASHA on the latest accuracy, as the best may be that of the start."""
    if options.scheduler == "none":
        return NopPruner()
    return SuccessiveHalvingPruner(min_resource=GRACE, reduction_factor=REDUCTION)


def _values(described: Mapping[str, Any], num_values: int) -> list[float]:
    low, high = described["low"], described["high"]
    fractions = [place / (num_values - 1) for place in range(num_values)]
    values = [low * (high / low) ** f if described["log"] else low + (high - low) * f for f in fractions]
    values[-1] = high
    return sorted({round(v) for v in values}) if described["is_integer"] else values
