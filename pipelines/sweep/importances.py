"""What a sweep's parameters had to do with its accuracies: their importances beside chance, and Optuna's pictures."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from matplotlib import pyplot
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.exceptions import ExperimentalWarning
from optuna.importance import PedAnovaImportanceEvaluator
from optuna.trial import TrialState
from optuna.visualization import matplotlib as drawn

from kdltr_core.metrics import standard_error
from pipelines.sweep.study import SweepTrial

FEWEST_TRIALS = 10
_TOP = 1 / 3  # Optuna's tenth is two or three trials of a sweep of two dozen: too few to show a choice that matters
_ACCURACY = "validation accuracy, %"


@dataclass(frozen=True)
class Importance:
    """How much a parameter had to do with which trials came out at the top.

    Attributes:
        name: of the parameter.
        share: of the importance of all parameters, in [0, 1].
        chance: the share that this one would have, the others as they are, with the figure that the first of all
            reaches in one of twenty sweeps in which none mattered; in [0, 1].
        is_beyond_chance: whether its own figure is larger than that one.
    """

    name: str
    share: float
    chance: float
    is_beyond_chance: bool


def counted_study(trials: Sequence[SweepTrial], space: Mapping[str, Mapping[str, Any]]) -> optuna.Study:
    """The trials as importances and pictures count them: one that was stopped with the best that was read of it.

    To leave it out would hide what made trials bad enough to be stopped. Failed trials, and those of which nothing was
    read, do not count. Ranges are widened to what was tried outside them, such as the baseline.
    """
    tried = {name: [trial.params[name] for trial in trials] for name in space}
    distributions = {name: _distribution(described, tried[name]) for name, described in space.items()}
    study = optuna.create_study(direction="maximize")
    for trial in trials:
        counts = trial.state != "FAILED" and trial.accuracy is not None
        study.add_trial(
            optuna.create_trial(
                state=TrialState.COMPLETE if counts else TrialState.FAIL,
                value=trial.accuracy if counts else None,
                params={name: trial.params[name] for name in space},
                distributions=distributions,
            )
        )
    return study


def importances(study: optuna.Study, num_shuffles: int = 100, seed: int = 0) -> tuple[Importance, ...]:
    """Shares of the parameters in what sets the best third of the trials apart, largest first.

    PED-ANOVA (Watanabe et al. 2023) compares the values of the best with those of all trials, so a searcher that
    tries one region more often does not by itself make a parameter important.

    Shares sum to one even in a sweep of pure noise. A divergence is therefore compared with the 95th percentile of the
    largest of any parameter over ``num_shuffles`` sweeps whose accuracies were dealt to the trials at random. Under
    TPE, which follows the accuracies, that is a little low: 6 of 80 sweeps of pure noise went beyond it.

    Args:
        study: as ``counted_study`` makes it.

    Returns: nothing for fewer than ``FEWEST_TRIALS`` trials with an accuracy, or where all accuracies are equal.
    """
    counted = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    accuracies = np.array([trial.value for trial in counted], dtype=float)
    if len(counted) < FEWEST_TRIALS or np.ptp(accuracies) == 0:
        return ()
    names = list(counted[0].params)

    def divergences(values: np.ndarray) -> np.ndarray:
        dealt = optuna.create_study(direction="maximize")
        dealt.add_trials(
            optuna.create_trial(params=trial.params, distributions=trial.distributions, value=float(value))
            for trial, value in zip(counted, values, strict=True)
        )
        evaluator = PedAnovaImportanceEvaluator(target_quantile=_TOP)
        found = optuna.importance.get_param_importances(dealt, evaluator=evaluator, normalize=False)
        return np.array([found[name] for name in names])

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        own = divergences(accuracies)
        generator = np.random.default_rng(seed)
        shuffled = [divergences(generator.permutation(accuracies)) for _ in range(num_shuffles)]
    if not own.sum() > 0:
        return ()
    by_chance = float(np.quantile(np.max(shuffled, axis=1), 0.95))
    others = own.sum() - own
    found = [
        Importance(name, float(figure / own.sum()), float(by_chance / (by_chance + other)), bool(figure > by_chance))
        for name, figure, other in zip(names, own, others, strict=True)
    ]
    return tuple(sorted(found, key=lambda importance: -importance.share))


def draw_pictures(folder: Path, study: optuna.Study, found: Sequence[Importance], num_words: int) -> list[Path]:
    """``history.png``, ``parallel_coordinates.png``, ``slices.png`` and, where there are any, ``importances.png``.

    None without a trial that was read. The band of the history is one standard error of the best on ``num_words``
    validation words.
    """
    if not study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,)):
        return []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that they are experimental, and of axes without a length, for few trials
        pyplot.switch_backend("agg")
        axes = drawn.plot_optimization_history(study, target_name=_ACCURACY)
        error = 100 * standard_error(study.best_value / 100, num_words)
        label = f"± one standard error ({num_words:,} words)"
        axes.axhspan(study.best_value - error, study.best_value + error, alpha=0.15, label=label)
        axes.legend()
        pictures = [_save(axes, folder / "history.png")]
        axes = drawn.plot_parallel_coordinate(study, target_name=_ACCURACY)
        pictures.append(_save(axes, folder / "parallel_coordinates.png"))
        pictures.append(_save(drawn.plot_slice(study, target_name=_ACCURACY), folder / "slices.png"))
        if found:
            _, axes = pyplot.subplots()
            axes.barh([i.name for i in found], [100 * i.share for i in found])
            axes.plot([100 * i.chance for i in found], range(len(found)), "k|", markersize=24, label="by chance")
            axes.invert_yaxis()
            axes.set_xlabel("importance, % of all parameters'")
            axes.legend()
            pictures.append(_save(axes, folder / "importances.png"))
    return pictures


def _distribution(described: Mapping[str, Any], values: Sequence[Any]) -> BaseDistribution:
    if "choices" in described:
        return CategoricalDistribution(list(dict.fromkeys([*described["choices"], *values])))
    low, high = min([described["low"], *values]), max([described["high"], *values])
    kind: Any = IntDistribution if described["is_integer"] else FloatDistribution
    return kind(low, high, log=described["log"] and low > 0)


def _save(axes: Any, path: Path) -> Path:
    figure = np.ravel(axes)[0].figure
    figure.savefig(path, dpi=130, bbox_inches="tight")
    pyplot.close(figure)
    return path
