"""How a sweep searches: Optuna's samplers and pruners."""

from __future__ import annotations

import warnings
from collections.abc import Callable

from optuna.exceptions import ExperimentalWarning
from optuna.pruners import BasePruner, NopPruner, SuccessiveHalvingPruner
from optuna.samplers import BaseSampler, RandomSampler, TPESampler

from pipelines.sweep.options import SweepOptions
from pipelines.sweep.study import PARTS

# A trial is compared with the others after a quarter of its length and after a half; the lower half stops.
GRACE, REDUCTION = PARTS // 4, 2


def sampler_for(options: SweepOptions, seed: int) -> Callable[[int], BaseSampler]:
    """Optuna's sampler for the search, of the number of trials that were known when it began."""

    def sampler(num_known: int) -> BaseSampler:
        fresh = seed + 1000 * num_known  # so that a sweep that resumes does not draw its first points again
        if options.search == "random":
            return RandomSampler(seed=fresh)
        # A trial that still runs counts as poor, so that the next does not try the same. In groups, since a baseline
        # outside the space has no parameters.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)
            return TPESampler(seed=fresh, multivariate=True, group=True, constant_liar=True)

    return sampler


def pruner_for(options: SweepOptions) -> BasePruner:
    """ASHA on the latest accuracy, as the best may be that of the start."""
    if options.scheduler == "none":
        return NopPruner()
    return SuccessiveHalvingPruner(min_resource=GRACE, reduction_factor=REDUCTION)
