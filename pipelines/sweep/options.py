"""From the words of a command line to a sweep: its own options, and the run that all its trials vary."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from kdltr_core.config import RunConfig, nearest
from pipelines.run.command_line import parse_run
from tune_spaces import SPACES


class SweepOptions(BaseModel):
    """What is searched, how, and with what."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    space: str = Field("loss_weights", description=f"what is searched: {', '.join(SPACES)}, or a Python file of yours")
    num_trials: int = Field(
        24, ge=1, description="points tried in all, the config's own first; more may be asked later"
    )
    search: Literal["tpe", "random", "grid"] = Field(
        "tpe",
        description="Optuna's TPE; random points; or a grid of at most num-trials points",
    )
    scheduler: Literal["asha", "none"] = Field(
        "asha",
        description="asha stops trials that are behind at a quarter and at half of their length",
    )
    trial_steps: int | None = Field(None, ge=1, description="length of a trial, if not that of the run")
    confirm: int = Field(0, ge=0, description="so many of the best points, and the config's own, are trained anew")
    confirm_seeds: int = Field(3, ge=1, description="times each, with other seeds and at full length")
    gpus_per_trial: float | None = Field(
        None, gt=0, description="of a trial in one process, 0.25 for four on a GPU; by default 1 where there is one"
    )
    cpus_per_trial: int = Field(1, ge=1, description="of a trial in one process, and its threads")
    workers_per_trial: int = Field(
        0, ge=0, description="data-parallel workers (Ray Train) of a trial, a GPU or CPU each; 0: one process"
    )
    trials_at_a_time: int = Field(
        0,
        ge=0,
        description="at most; a cluster's machines for so many are asked for and waited for (--wait-minutes) at the "
        "beginning; 0: as many as there is room for then",
    )

    @model_validator(mode="after")
    def _belong_together(self) -> SweepOptions:
        if self.workers_per_trial and self.gpus_per_trial:
            raise ValueError(
                "--gpus-per-trial is for trials in one process; each of --workers-per-trial takes a whole one"
            )
        if self.gpus_per_trial and self.gpus_per_trial > 1 and not self.gpus_per_trial.is_integer():
            raise ValueError(
                f"--gpus-per-trial is {self.gpus_per_trial}, expected a share of one GPU or a whole number"
            )
        return self


def parse_sweep(arguments: Sequence[str], script: str, about: str) -> tuple[SweepOptions, RunConfig]:
    """``[RECIPE|config.yaml] [--sweep-option value …] [--dotted.field value …]``; ``--help`` prints all and exits.

    Without ``--name`` the sweep has the run's name and the space's. Without ``--data.teacher-cache`` it is on where
    there is a teacher whose images do not change.

    Raises: ValueError for what ``parse_run`` refuses, an unknown option (naming the nearest) or value.
    """
    own, others = _split(arguments)
    try:
        options = SweepOptions.model_validate(own)
    except ValidationError as error:
        raise ValueError("; ".join(_explain(e) for e in error.errors())) from None
    config = parse_run(others, script, about + _listing())
    if not _is_given("data.teacher_cache", others) and _keeps_lessons(config):
        config = config.override({"data.teacher_cache": "on"})
    if options.space not in SPACES and Path(options.space).suffix:
        options = options.model_copy(update={"space": os.path.abspath(os.path.expanduser(options.space))})
    if not _is_given("name", others):
        config = config.override({"name": f"{config.name}-{Path(options.space).stem}"})
    return options, config


def _is_given(field: str, words: Sequence[str]) -> bool:
    options = (word[2:].partition("=")[0].replace("-", "_") for word in words if word.startswith("--"))
    return field in options


def _keeps_lessons(config: RunConfig) -> bool:
    return config.objective.name != "supervised"


def _split(arguments: Sequence[str]) -> tuple[dict[str, str], list[str]]:
    """The sweep's own options with their values, and the words that ``parse_run`` shall read."""
    known = [*SweepOptions.model_fields, *RunConfig().flatten(), "help"]
    own: dict[str, str] = {}
    others: list[str] = []
    words = list(arguments)
    while words:
        word = words.pop(0)
        option, equals, value = word[2:].partition("=") if word.startswith("--") else ("", "", "")
        option = option.replace("-", "_")
        if option and option not in known:
            close = nearest(option, known).replace("did you mean '", "did you mean '--").replace("_", "-")
            raise ValueError(f"unknown option {word.partition('=')[0]}{close or '; --help lists them all'}")
        if option not in SweepOptions.model_fields:
            others.append(word)
        elif equals:
            own[option] = value
        elif words and not words[0].startswith("--"):
            own[option] = words.pop(0)
        else:
            raise ValueError(f"{word} takes one value, got none")
    return own, others


def _explain(error: Any) -> str:
    if error["type"] == "value_error":
        return error["msg"].removeprefix("Value error, ")
    name = str(error["loc"][0])
    option = f"--{name.replace('_', '-')} is {error['input']!r}"
    if error["type"] == "literal_error":
        expected = error["ctx"]["expected"]
        choices = [c.strip("' ") for c in expected.replace(" or ", ",").split(",")]
        return f"{option}, expected {expected}{nearest(str(error['input']), choices)}"
    return f"{option}: {error['msg']}"


def _listing() -> str:
    lines = ["", "", "Options of the sweep (in which --data.teacher-cache is on, unless it is given):"]
    for name, field in SweepOptions.model_fields.items():
        default = "" if field.default is None else f" (default {field.default})"
        lines.append(f"  --{name.replace('_', '-')}: {field.description}{default}")
    return "\n".join(lines)
