"""From the words of a command line to a validated run, or one sentence that says what is wrong with them."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import tyro

from kdltr_core.config import RunConfig, nearest
from kdltr_core.uri import is_uri, local_path
from pipelines.recipes import DEFAULT_RECIPE, RECIPES

DID_NOT_FINISH = 1
USER_MISTAKE = 2
INTERRUPTED = 130


class RunStopped(RuntimeError):
    """A run that was begun and did not come to its end; the message says why in one sentence."""


def answer_mistakes(main: Callable[[], int]) -> int:
    """The exit code of ``main``: a user's mistake (ValueError) is one sentence on stderr and code 2.

    So is what the machine refuses (OSError), a full disk for instance, with code 1.
    """
    try:
        return main()
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return USER_MISTAKE
    except (RunStopped, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return DID_NOT_FINISH
    except KeyboardInterrupt:
        print("interrupted; the same command goes on from the last checkpoint", file=sys.stderr)
        return INTERRUPTED


def parse_run(arguments: Sequence[str], script: str, about: str) -> RunConfig:
    """``[RECIPE|config.yaml] [--dotted.field value …]`` as a run; ``--help`` prints every field and exits.

    The help is tyro's. The values are read by the models themselves, whose messages name the nearest valid one.

    Raises: ValueError for an unknown recipe, file, field or value.
    """
    words = list(arguments)
    source = words.pop(0) if words and not words[0].startswith("-") else DEFAULT_RECIPE
    config = _base(source)
    if any(word in ("-h", "--help") for word in words):
        recipes = "\n".join(f"  {name}: {(recipe.__doc__ or '').splitlines()[0]}" for name, recipe in RECIPES.items())
        tyro.cli(
            RunConfig,
            default=config,
            args=["--help"],
            prog=f"{script} [RECIPE|config.yaml]",
            description=f"{about}\n\nRecipes:\n{recipes}\n\nThe defaults below are those of {source}.",
        )
    return absolute(config.override(_options(words, config)))


def absolute(config: RunConfig) -> RunConfig:
    """The run with a name and with absolute paths and URIs: workers run in other folders, maybe on other machines."""
    recognizer = config.recognizer
    changes: dict[str, Any] = {
        "name": config.name or config.recipe or "run",
        "output_folder": _path(config.output_folder),
        "data.cache_folder": _cache_folder(config.data.cache_folder),
        "data.train_roots": tuple(_path(root) for root in config.data.train_roots),
        "data.benchmark_roots": tuple(_path(root) for root in config.data.benchmark_roots),
        "tracking_uri": _tracking_uri(_server_of_this_machine(config.tracking_uri)),
    }
    for field in ("teacher_weights", "start_weights", "student_weights", "language_weights"):
        given = getattr(recognizer, field)
        if given not in ("", "bundled"):
            changes[f"recognizer.{field}"] = _path(given)
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


def _options(words: Sequence[str], config: RunConfig) -> dict[str, Any]:
    """Dotted fields and the words that follow them, still as text where the models can read text."""
    known = config.flatten()
    given: dict[str, list[str]] = {}
    option = ""
    for word in words:
        if word.startswith("--"):
            option, equals, value = word[2:].partition("=")
            option = option.replace("-", "_")
            if option not in known:
                close = nearest(option, known).replace("did you mean '", "did you mean '--").replace("_", "-")
                raise ValueError(f"unknown option {word.partition('=')[0]}{close or '; --help lists them all'}")
            given[option] = [value] if equals else []
        elif not option:
            raise ValueError(f"expected an option such as --workers 2, got {word!r}; only one recipe or file is taken")
        else:
            given[option].append(word)
    return {name: _value(name, values, known) for name, values in given.items()}


def _value(name: str, values: list[str], known: Mapping[str, Any]) -> Any:
    if isinstance(known[name], list):
        return tuple(values)
    if len(values) != 1:
        raise ValueError(f"--{name.replace('_', '-')} takes one value, got {' '.join(values) or 'none'}")
    return None if name == "num_steps" and values[0].lower() == "none" else values[0]


def _path(text: str) -> str:
    """A path in whole; a URI as it is, unless it is that of a path."""
    if is_uri(text):
        return str(local_path(text) or text)
    return os.path.abspath(os.path.expanduser(text))


def _cache_folder(text: str) -> str:
    if is_uri(text):
        raise ValueError(
            f"data.cache_folder is {text}, expected a path: each machine keeps its copies on a disk of its own"
        )
    return _path(text)


def _server_of_this_machine(uri: str) -> str:
    """The default database gives way to the server that MLFLOW_TRACKING_URI names, as for MLflow's own commands."""
    return os.environ.get("MLFLOW_TRACKING_URI") or uri if uri == RunConfig().tracking_uri else uri


def _tracking_uri(uri: str) -> str:
    """An SQLite file by its absolute path; servers and '' as they are."""
    if uri and "://" not in uri:
        raise ValueError(
            f"tracking_uri is {uri!r}, expected a server (http://host:5000), a database (sqlite:///mlflow.db) or ''"
        )
    scheme, _, path = uri.partition(":///")
    return f"{scheme}:///{_path(path)}" if scheme == "sqlite" else uri
