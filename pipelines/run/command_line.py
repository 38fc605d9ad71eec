"""From the words of a command line to a validated run, or one sentence that says what is wrong with them."""

from __future__ import annotations

import io
import os
import re
import sys
from collections.abc import Callable, Sequence
from copy import copy
from dataclasses import asdict, dataclass, field, make_dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any, TypeVar

import tyro
from pydantic import BaseModel, ValidationError

from kdltr_core.config import RunConfig, nearest
from kdltr_core.inference.pretrained import pretrained
from kdltr_core.remote import is_uri, local_path, public
from pipelines.recipes import DEFAULT_RECIPE, RECIPES

DID_NOT_FINISH = 1
USER_MISTAKE = 2
INTERRUPTED = 130

Own = TypeVar("Own")


class RunStopped(RuntimeError):
    """A run that was begun and did not come to its end; the message says why in one sentence."""


@dataclass(frozen=True)
class _NoOptions:
    """Of a command that has none but the run's."""


def answer_mistakes(main: Callable[[], int]) -> int:
    """The exit code of ``main``: a user's mistake (ValueError) is one sentence on stderr and code 2.

    So is what the machine refuses (OSError), a full disk for instance, with code 1. Characters that the terminal's
    encoding lacks are written as escapes, so that no result is lost at its print.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        return main()
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return USER_MISTAKE
    except (RunStopped, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return DID_NOT_FINISH
    except KeyboardInterrupt:
        print(
            "interrupted; the same command resumes a run, sweep or comparison from its last checkpoint", file=sys.stderr
        )
        return INTERRUPTED


def parse_run(arguments: Sequence[str], script: str, about: str) -> RunConfig:
    """``[RECIPE|config.yaml] [--dotted.field value …]`` as a run; ``--help`` prints every field and exits.

    Raises: ValueError for an unknown recipe or file, or a value that a field refuses; SystemExit, after tyro has named
        the nearest option or the choices, for an unknown option or a value of another type.
    """
    return parse_run_with(_NoOptions, arguments, script, about)[1]


def parse_run_with(
    own: type[Own], arguments: Sequence[str], script: str, about: str, suffix: Callable[[Own], str] = lambda own: ""
) -> tuple[Own, RunConfig]:
    """As ``parse_run``, for a command that has options of its own beside those of the run.

    Args:
        own: their dataclass or pydantic model; every field has a default.
        suffix: what follows the name of a run to which ``--name`` gives none.
    """
    words = list(arguments)
    source = words.pop(0) if words and not words[0].startswith("-") else DEFAULT_RECIPE
    base = _base(source)
    recipes = "\n".join(f"  {name}: {(recipe.__doc__ or '').splitlines()[0]}" for name, recipe in RECIPES.items())
    unnamed = tyro.conf.arg(name="")
    run = _unvalidated(base.override({"name": ""}))
    both: list[Any] = [("own", Annotated[own, unnamed], field(default_factory=own)), ("run", Annotated[run, unnamed])]
    try:
        given: Any = tyro.cli(
            make_dataclass("Options", both, kw_only=True),
            args=words,
            prog=f"{sys.argv[0] if sys.argv[0].startswith('kdltr ') else script} [RECIPE|config.yaml]",
            description=f"{about}\n\nRecipes:\n{recipes}\n\nThe defaults below are those of {source}.",
        )
    except ValidationError as error:  # of the command's own options; the run validates itself below
        raise ValueError("; ".join(map(_explain, error.errors()))) from None
    changes = asdict(given.run)
    for section in [name for name, value in changes.items() if isinstance(value, dict)]:
        changes |= {f"{section}.{name}": value for name, value in changes.pop(section).items()}
    changes["name"] = changes["name"] or f"{base.name or base.recipe or 'run'}{suffix(given.own)}"
    try:
        return given.own, absolute(base.override(changes))
    except ValueError as error:
        # A field of the config is an option as it was typed.
        named = (rf"(^|; )({'|'.join(map(re.escape, changes))}) is ", lambda m: f"{m[1]}--{m[2].replace('_', '-')} is ")
        raise ValueError(re.sub(*named, str(error))) from None


def _unvalidated(model: BaseModel) -> type:
    """A dataclass of the model's fields, types and values: the model itself says what a value may be, in its words."""
    fields: list[Any] = []
    for name, info in type(model).model_fields.items():
        value = getattr(model, name)
        if isinstance(value, BaseModel):
            fields.append((name, _unvalidated(value)))
        else:
            fields.append(
                (
                    name,
                    Annotated[info.annotation, tyro.conf.arg(help=info.description)],
                    field(default_factory=partial(copy, value)),
                )
            )
    return make_dataclass(type(model).__name__, fields, kw_only=True)


def _explain(fault: Any) -> str:
    """What pydantic says of an option."""
    message = fault["msg"].removeprefix("Value error, ")
    option = ".".join(map(str, fault["loc"])).replace("_", "-")
    return f"--{option} is {fault['input']!r}: {message}" if option else message


def absolute(config: RunConfig) -> RunConfig:
    """The run with a name and with absolute paths and URIs: workers run in other folders, maybe on other machines.

    The default database gives way to the server that MLFLOW_TRACKING_URI names, as for MLflow's own commands. Where
    there is a secret in it, the run has it without, and this process alone keeps it, there.
    """
    data, tracking = config.data, config.tracking_uri
    if is_uri(data.cache_folder):
        raise ValueError(
            f"data.cache_folder is {data.cache_folder}, expected a path: each machine keeps its copies on its own disk"
        )
    origin = ""
    if tracking == RunConfig().tracking_uri and os.environ.get("MLFLOW_TRACKING_URI"):
        tracking, origin = os.environ["MLFLOW_TRACKING_URI"], " (from MLFLOW_TRACKING_URI; --tracking-uri goes before)"
    if tracking and "://" not in tracking:
        raise ValueError(
            f"tracking_uri is {tracking!r}{origin}, expected a server (http://host:5000), a database "
            "(sqlite:///mlflow.db) or ''"
        )
    scheme, _, file = tracking.partition(":///")
    tracking = f"{scheme}:///{_path(file)}" if scheme == "sqlite" else tracking
    if public(tracking) != tracking:
        os.environ["MLFLOW_TRACKING_URI"] = tracking
    changes: dict[str, Any] = {
        "name": config.name or config.recipe or "run",
        "output_folder": _path(config.output_folder),
        "data.cache_folder": _path(data.cache_folder),
        "data.train_roots": tuple(map(_path, data.train_roots)),
        "data.unlabelled_roots": tuple(map(_path, data.unlabelled_roots)),
        "data.benchmark_roots": tuple(map(_path, data.benchmark_roots)),
        "tracking_uri": public(tracking),
    }
    for weights in ("teacher_weights", "student_weights", "language_weights"):
        given = getattr(config.recognizer, weights)
        if given not in ("", "bundled") and not pretrained(given):
            changes[f"recognizer.{weights}"] = _path(given)
    return config.override(changes)


def _base(source: str) -> RunConfig:
    if source in RECIPES:
        return RECIPES[source]()
    if Path(source).suffix in (".yaml", ".yml") or Path(source).is_file():
        config = RunConfig.from_yaml(source)
        return config if config.name or config.recipe else config.override({"name": Path(source).stem})
    raise ValueError(
        f"there is no recipe {source!r}; recipes are {', '.join(RECIPES)}, "
        f"and a file named *.yaml is read as the config of a run{nearest(source, RECIPES)}"
    )


def _path(text: str) -> str:
    """A path in whole; a URI as it is, unless it is that of a path."""
    if is_uri(text):
        return str(local_path(text) or text)
    return os.path.abspath(os.path.expanduser(text))
