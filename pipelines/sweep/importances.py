"""What Optuna finds in the trials of a sweep: the importances of its parameters, and pictures."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from matplotlib import pyplot
from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances
from optuna.trial import TrialState
from optuna.visualization import matplotlib as drawn

FEWEST_TRIALS = 10
_TOP = 1 / 3  # Optuna's tenth is two or three trials of a sweep of two dozen: too few to show a choice that matters
_ACCURACY = "validation accuracy, %"


def counted_study(study: optuna.Study) -> optuna.Study:
    """The sampler's trials that were read; one that was stopped counts with the best that was read of it.

    To leave it out would hide what made trials bad enough to be stopped.
    """
    counted = optuna.create_study(direction="maximize")
    for trial in study.get_trials(deepcopy=False, states=(TrialState.COMPLETE, TrialState.PRUNED)):
        if trial.params and "accuracy" in trial.user_attrs:
            value = trial.user_attrs["accuracy"]
            counted.add_trial(optuna.create_trial(params=trial.params, distributions=trial.distributions, value=value))
    return counted


def importances(study: optuna.Study, names: Sequence[str]) -> dict[str, float]:
    """Shares of the parameters in what sets the best third of the trials apart, in [0, 1], largest first.

    PED-ANOVA (Watanabe et al. 2023) compares the values of the best with those of all trials, so a searcher that
    tries one region more often does not by itself make a parameter important. Shares sum to one even in a sweep of
    pure noise.

    Args:
        study: as ``counted_study`` makes it.

    Returns: nothing for fewer than ``FEWEST_TRIALS`` trials with an accuracy, or where all accuracies are equal.
    """
    values = [trial.value for trial in study.trials]
    if len(values) < FEWEST_TRIALS or np.ptp(np.array(values, dtype=float)) == 0:
        return {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that it is experimental
        evaluator = PedAnovaImportanceEvaluator(target_quantile=_TOP)
        return get_param_importances(study, evaluator=evaluator, params=list(names))


def draw_pictures(folder: Path, study: optuna.Study) -> list[Path]:
    """``history.png``, ``parallel_coordinates.png`` and ``slices.png``; none without a trial.

    Args:
        study: as ``counted_study`` makes it.
    """
    if not study.trials:
        return []
    plots: dict[str, Any] = {
        "history": drawn.plot_optimization_history,
        "parallel_coordinates": drawn.plot_parallel_coordinate,
        "slices": drawn.plot_slice,
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that they are experimental, and of axes without a length, for few trials
        pyplot.switch_backend("agg")
        return [_save(plot(study, target_name=_ACCURACY), folder / f"{name}.png") for name, plot in plots.items()]


def _save(axes: Any, path: Path) -> Path:
    figure = np.ravel(axes)[0].figure
    figure.savefig(path, dpi=130, bbox_inches="tight")
    pyplot.close(figure)
    return path
