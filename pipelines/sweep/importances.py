"""Which parameters of a sweep mattered, by Optuna's PED-ANOVA, beside what shuffled accuracies would show."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.exceptions import ExperimentalWarning
from optuna.importance import PedAnovaImportanceEvaluator

from pipelines.sweep.sweep import Importance, Parameter, Trial

FEWEST_TRIALS = 10
_TOP = 1 / 3  # Optuna's tenth is two or three trials of a sweep of two dozen: too few to show a choice that matters


def importances(
    trials: Sequence[Trial], space: Sequence[Parameter], *, num_shuffles: int = 100, seed: int = 0
) -> tuple[Importance, ...]:
    """Shares of the parameters in what sets the best third of the trials apart, largest first.

    PED-ANOVA (Watanabe et al. 2023) compares the values of the best with those of all trials, so a searcher that
    tries one region more often does not by itself make a parameter important. It needs no scikit-learn, unlike
    fANOVA and the mean decrease of impurity. A pruned trial counts with the best accuracy that was read of it:
    low, as a rule, so among the rest. To leave it out would hide what made trials bad enough to be pruned. Failed
    trials, and those of which nothing was read, do not count.

    Shares sum to one even in a sweep of pure noise. A divergence is therefore compared with the 95th percentile of the
    largest of any parameter over ``num_shuffles`` sweeps whose accuracies were dealt to the trials at random. Under
    TPE, which follows the accuracies, that is a little low: 6 of 80 sweeps of pure noise went beyond it.
    ``Importance.chance`` is the share that a parameter would have with that divergence in the place of its own, so it
    is a share too, however little the true divergences are.

    Returns: nothing for fewer than ``FEWEST_TRIALS`` trials with an accuracy, or where all accuracies are equal.
    """
    counted = [t for t in trials if t.state != "FAILED" and t.accuracy is not None]
    accuracies = np.array([t.accuracy for t in counted], dtype=float)
    if len(counted) < FEWEST_TRIALS or np.ptp(accuracies) == 0 or not space:
        return ()
    distributions = {p.name: _distribution(p, counted) for p in space}
    points = [{p.name: _encoded(p, t, counted) for p in space} for t in counted]

    def divergences(values: np.ndarray) -> np.ndarray:
        found = _ped_anova(points, distributions, values)
        return np.array([found[p.name] for p in space])

    true = divergences(accuracies)
    if not true.sum() > 0:
        return ()
    generator = np.random.default_rng(seed)
    shuffled = [divergences(generator.permutation(accuracies)) for _ in range(num_shuffles)]
    by_chance = float(np.quantile(np.max(shuffled, axis=1), 0.95))
    found = [
        Importance(parameter.name, _share(own, others), _share(by_chance, others), bool(own > by_chance))
        for parameter, own, others in zip(space, true, true.sum() - true, strict=True)
    ]
    return tuple(sorted(found, key=lambda importance: -importance.share))


def _share(own: float, others: float) -> float:
    return float(own / (own + others)) if own > 0 else 0.0


def _ped_anova(
    points: Sequence[dict[str, Any]], distributions: dict[str, BaseDistribution], values: np.ndarray
) -> dict[str, float]:
    """Divergence of every parameter, not normalised."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(direction="maximize")
    study.add_trials(
        optuna.create_trial(params=point, distributions=distributions, value=float(value))
        for point, value in zip(points, values, strict=True)
    )
    evaluator = PedAnovaImportanceEvaluator(target_quantile=_TOP)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)  # that not to normalise is an option since Optuna 3
        return optuna.importance.get_param_importances(study, evaluator=evaluator, normalize=False)


def _choices(parameter: Parameter, trials: Sequence[Trial]) -> list[Any]:
    """The space's, then others that were tried, such as the published point's."""
    choices = list(parameter.choices)
    for trial in trials:
        value = trial.params[parameter.name]
        if value not in choices:
            choices.append(value)
    return choices


def _distribution(parameter: Parameter, trials: Sequence[Trial]) -> BaseDistribution:
    """The range, widened to what was tried outside it, such as the published point."""
    if parameter.low is None or parameter.high is None:
        return CategoricalDistribution(range(len(_choices(parameter, trials))))
    values = [trial.params[parameter.name] for trial in trials]
    low, high = min(parameter.low, *values), max(parameter.high, *values)
    if parameter.is_integer:
        return IntDistribution(int(low), int(high), log=parameter.log and low > 0)
    return FloatDistribution(low, high, log=parameter.log and low > 0)


def _encoded(parameter: Parameter, trial: Trial, trials: Sequence[Trial]) -> Any:
    """What Optuna takes: the number of a choice, as choices may be anything."""
    value = trial.params[parameter.name]
    return _choices(parameter, trials).index(value) if parameter.choices else value
