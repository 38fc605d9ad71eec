"""From the words of a command line to a comparison: its own options, and the run that all contenders change."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from kdltr_core.config import RunConfig, nearest
from pipelines.run.command_line import parse_run
from pipelines.sweep.objectives import CONTENDERS
from pipelines.sweep.options import SweepOptions


class CompareOptions(BaseModel):
    """Who is compared, how often, and with what."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    objectives: tuple[str, ...] = Field(
        ("supervised", "distillation"),
        min_length=1,
        description=f"who is trained: {', '.join(CONTENDERS)}; each may be followed by changes, +field=value",
    )
    seeds: tuple[int, ...] = Field((0, 1, 2), min_length=1, description="every one is trained with each of these")
    reference: str = Field("", description="whom the others are tested against, one of --objectives; none: the first")
    gpus_per_trial: float | None = Field(
        None, gt=0, description="of a run in one process, 0.25 for four on a GPU; by default 1 where there is one"
    )
    cpus_per_trial: int = Field(1, ge=1, description="of a run in one process, and its threads")
    workers_per_trial: int = Field(
        0, ge=0, description="data-parallel workers (Ray Train) of a run, a GPU or CPU each; 0: one process"
    )

    @model_validator(mode="after")
    def _belong_together(self) -> CompareOptions:
        if self.reference and self.reference not in self.objectives:
            raise ValueError(f"--reference {self.reference} is none of --objectives {' '.join(self.objectives)}")
        if len(set(self.seeds)) < len(self.seeds) or min(self.seeds) < 0:
            raise ValueError(f"--seeds are {' '.join(map(str, self.seeds))}, expected different ones from 0 on")
        return self

    @property
    def against(self) -> str:
        return self.reference or self.objectives[0]

    @property
    def room(self) -> SweepOptions:
        """What a run takes, as a sweep's trial takes it. Raises: ValueError for what does not go together."""
        fields = ("gpus_per_trial", "cpus_per_trial", "workers_per_trial")
        return _checked(SweepOptions, {name: getattr(self, name) for name in fields})


_LISTS = ("objectives", "seeds")
Model = TypeVar("Model", bound=BaseModel)


def parse_comparison(arguments: Sequence[str], script: str, about: str) -> tuple[CompareOptions, RunConfig]:
    """``[RECIPE|config.yaml] [--objectives … --seeds …] [--dotted.field value …]``; ``--help`` prints all and exits.

    Without ``--name`` the comparison has the run's name and ``-compared``.

    Raises: ValueError for what ``parse_run`` refuses, an unknown option (naming the nearest) or value.
    """
    own, others = _split(arguments)
    options = _checked(CompareOptions, own)
    config = parse_run(others, script, about + _listing())
    if not any(word == "--name" or word.startswith("--name=") for word in others):
        config = config.override({"name": f"{config.name}-compared"})
    return options, config


def _split(arguments: Sequence[str]) -> tuple[dict[str, Any], list[str]]:
    known = [*CompareOptions.model_fields, *RunConfig().flatten(), "help"]
    own: dict[str, list[str]] = {}
    others: list[str] = []
    taking: list[str] = others
    for word in arguments:
        option, equals, value = word[2:].partition("=") if word.startswith("--") else ("", "", "")
        option = option.replace("-", "_")
        if option and option not in known:
            close = nearest(option, known).replace("did you mean '", "did you mean '--").replace("_", "-")
            raise ValueError(f"unknown option {word.partition('=')[0]}{close or '; --help lists them all'}")
        if option in CompareOptions.model_fields:
            taking = own[option] = [value] if equals else []
        elif option or word.startswith("-"):
            taking = others
            others.append(word)
        else:
            taking.append(word)
    for name, values in own.items():
        if name not in _LISTS and len(values) != 1:
            raise ValueError(f"--{name.replace('_', '-')} takes one value, got {' '.join(values) or 'none'}")
    return {name: tuple(values) if name in _LISTS else values[0] for name, values in own.items()}, others


def _checked(kind: type[Model], values: dict[str, Any]) -> Model:
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        raise ValueError(_explain(error.errors()[0])) from None


def _explain(error: Any) -> str:
    if not error["loc"]:
        return error["msg"].removeprefix("Value error, ")
    given = f"is {error['input']!r}" if error["input"] else "names nothing"
    return f"--{str(error['loc'][0]).replace('_', '-')} {given}: {error['msg']}"


def _listing() -> str:
    lines = ["", "", "Options of the comparison:"]
    for name, field in CompareOptions.model_fields.items():
        default = " ".join(map(str, field.default)) if isinstance(field.default, tuple) else field.default
        shown = "" if default in (None, "") else f" (default {default})"
        lines.append(f"  --{name.replace('_', '-')}: {field.description}{shown}")
    return "\n".join(lines)
