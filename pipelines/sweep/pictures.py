"""Optuna's pictures of a sweep: its history, its points, and the importances of its parameters."""

from __future__ import annotations

import warnings
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from matplotlib import pyplot
from optuna.importance import PedAnovaImportanceEvaluator
from optuna.trial import TrialState
from optuna.visualization import matplotlib as drawn

FEWEST_TRIALS = 10
_TOP = 1 / 3  # Optuna's tenth is two or three trials of a sweep of two dozen: too few to show a choice that matters
_ACCURACY = "validation accuracy, %"
NOTE = (
    "Importances: share of each parameter in what sets the best third of the trials apart (PED-ANOVA, Watanabe et al. "
    f"2023), drawn from {FEWEST_TRIALS} trials on; they sum to one even where no parameter mattered. Pruned trials "
    "count with the best accuracy read of them, failed ones not."
)


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


def draw_pictures(folder: Path, study: optuna.Study) -> list[Path]:
    """``history.png``, ``parallel_coordinates.png``, ``slices.png`` and, where trials differ, ``importances.png``.

    Args:
        study: a sweep's; without a trial that was read there is no picture.
    """
    study = counted_study(study)
    values = [trial.value for trial in study.trials]
    if not values:
        return []
    plots: dict[str, Any] = {
        "history": drawn.plot_optimization_history,
        "parallel_coordinates": drawn.plot_parallel_coordinate,
        "slices": drawn.plot_slice,
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that they are experimental, and of axes without a length, for few trials
        if len(values) >= FEWEST_TRIALS and len(set(values)) > 1:
            evaluator = PedAnovaImportanceEvaluator(target_quantile=_TOP)
            plots["importances"] = partial(drawn.plot_param_importances, evaluator=evaluator)
        pyplot.switch_backend("agg")
        return [_save(plot(study, target_name=_ACCURACY), folder / f"{name}.png") for name, plot in plots.items()]


def _save(axes: Any, path: Path) -> Path:
    figure = np.ravel(axes)[0].figure
    figure.savefig(path, dpi=130, bbox_inches="tight")
    pyplot.close(figure)
    return path
