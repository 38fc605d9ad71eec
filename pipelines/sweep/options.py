"""The options of a sweep and of a comparison, beside those of the run that all their trials vary."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from kdltr_core.config import ObjectiveName, RunConfig
from pipelines.run.command_line import parse_run_with
from tune_spaces import SPACES

# PARSeq's published student has a patch embedding of its own; the other families start as published in any case.
ComparedObjective = ObjectiveName | Literal["distillation_published"]


class TrialOptions(BaseModel):
    """What a trial takes."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    gpus_per_trial: float | None = Field(
        None, gt=0, le=1, description="GPUs per trial; 0.25: four trials on one GPU; by default 1 where there is a GPU"
    )
    cpus_per_trial: int = Field(1, ge=1, description="CPUs, and threads, per trial")
    trials_at_a_time: int = Field(
        0,
        ge=0,
        description="most trials at the same time; a cluster is asked for their machines first; 0: as many as fit",
    )


class SweepOptions(TrialOptions):
    """What is searched, how, and with what."""

    space: str = Field("loss_weights", description=f"what is searched: {', '.join(SPACES)}, or a Python file of yours")
    num_trials: int = Field(24, ge=1, description="trials in all, the baseline first; the number may be raised later")
    search: Literal["tpe", "random"] = Field("tpe", description="Optuna's TPE, or random points")
    scheduler: Literal["asha", "none"] = Field(
        "asha", description="asha stops trials that are behind at a quarter and at half of their length"
    )
    trial_steps: int | None = Field(None, ge=1, description="steps per trial, if not those of the run")
    confirm: int = Field(
        0, ge=0, description="number of best points that are retrained together with the baseline, and tested"
    )
    confirm_seeds: int = Field(3, ge=1, description="seeds per confirmed point, at full length")


class CompareOptions(TrialOptions):
    """Who is compared, how often, and with what."""

    objectives: tuple[ComparedObjective, ...] = Field(
        ("supervised", "distillation"),
        min_length=1,
        description="who is trained; the others are tested against the first",
    )
    seeds: tuple[int, ...] = Field((0, 1, 2), min_length=1, description="seeds that every objective is trained with")

    @model_validator(mode="after")
    def _can_be_compared(self) -> CompareOptions:
        if len(set(self.seeds)) < len(self.seeds) or min(self.seeds) < 0:
            raise ValueError(f"--seeds are {' '.join(map(str, self.seeds))}, expected different ones from 0 on")
        return self

    @property
    def fields(self) -> dict[str, dict[str, Any]]:
        """By objective, what its config has otherwise than the others'."""
        fields: dict[str, dict[str, Any]] = {name: {"objective.name": name} for name in self.objectives}
        published = {"objective.name": "distillation", "recognizer.student_start": "random_patch"}
        return {name: published if name == "distillation_published" else own for name, own in fields.items()}


def parse_sweep(arguments: Sequence[str], script: str, about: str) -> tuple[SweepOptions, RunConfig]:
    """``[RECIPE|config.yaml] [--sweep-option value …] [--dotted.field value …]``; ``--help`` prints all and exits.

    Without ``--name`` the sweep has the run's name and the space's. Without ``--data.teacher-cache`` it is on where
    there is a teacher.

    Raises: as ``parse_run``.
    """
    options, config = parse_run_with(
        SweepOptions, arguments, script, about, lambda options: f"-{Path(options.space).stem}"
    )
    given = {word.partition("=")[0].replace("_", "-") for word in arguments}
    if "--data.teacher-cache" not in given and config.objective.name != "supervised":
        config = config.override({"data.teacher_cache": "on"})
    if options.space not in SPACES and Path(options.space).suffix:
        options = options.model_copy(update={"space": os.path.abspath(os.path.expanduser(options.space))})
    return options, config
