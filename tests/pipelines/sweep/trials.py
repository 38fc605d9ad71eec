"""Trials whose accuracies are known beforehand, recorded by the parts that record real ones."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from kdltr_core.evaluation.table import STUDENT_LOW_RES, Column, write_predictions
from pipelines.run.metrics_log import MetricsLog
from pipelines.sweep.study import State, SweepStudy, SweepTrial
from tests.kdltr_core.evaluation.tables import one_word
from tune_spaces.space import Space

SOFT = "objective.soft_logits"
SPACE = Space(
    {
        SOFT: FloatDistribution(2.0, 200.0, log=True),
        "objective.num_permutations": IntDistribution(1, 12),
        "optim.schedule": CategoricalDistribution(["step", "cosine", "constant"]),
    },
)
OWN = {SOFT: 20.0, "objective.num_permutations": 6, "optim.schedule": "step"}


def ended_trial(
    number: int, accuracy: float | None, state: State = "FINISHED", error: str = "", **point: Any
) -> SweepTrial:
    params = {**OWN, SOFT: 20.0 + number, **point}
    return SweepTrial(number, Path(f"{number:04d}"), params, state, accuracy, error, is_baseline=params == OWN)


def begin_trial(study: SweepStudy, point: Mapping[str, Any] | None, *accuracies: float) -> SweepTrial:
    """The trial of this point (None: whichever comes next), with these readings of the validation split."""
    if point is not None:
        study.enqueue([point])
    trial = study.begin()
    assert trial is not None
    metrics_log = MetricsLog(trial.folder / "metrics.jsonl")
    for step, accuracy in enumerate(accuracies):
        metrics_log.record(step, {"validation/word_accuracy": accuracy})
    return trial


def try_point(
    study: SweepStudy, point: Mapping[str, Any] | None, *accuracies: float, state: State = "FINISHED", error: str = ""
) -> SweepTrial:
    return study.end(begin_trial(study, point, *accuracies).number, state, error)


def train_candidate(
    study: SweepStudy, point: Mapping[str, Any], right: str, state: State = "FINISHED", of: Column = STUDENT_LOW_RES
) -> None:
    """A training of this point that read the words as "1101" says: 1 is right."""
    trial = begin_trial(study, point, 50.0)
    (trial.folder / "evaluation").mkdir(exist_ok=True)
    readings = [one_word(row, "word" if sign == "1" else "ward", of) for row, sign in enumerate(right)]
    write_predictions(trial.folder / "evaluation" / "predictions.parquet", readings)
    study.end(trial.number, state, "OSError: disk" if state == "FAILED" else "")
