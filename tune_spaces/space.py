"""Search spaces by name or file, checked against the fields of a run before anything is trained.

A space is a module with ``SPACE``, from dotted fields to sampling functions of ``ray.tune``, and, if wanted,
``POINTS``: a list of points to try first, each with a value for every field of the space.
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from ray.tune.search.sample import Categorical, Domain, Float, Integer, LogUniform, Quantized, Uniform

from kdltr_core.config import RunConfig, fields_marked, nearest
from tune_spaces import SPACES


@dataclass(frozen=True)
class Space:
    """Fields and what they are drawn from.

    Attributes:
        name: of the space or its file.
        domains: sampling functions by dotted field.
        points: to try first, as the file has them.
    """

    name: str
    domains: Mapping[str, Domain]
    points: tuple[Mapping[str, Any], ...] = ()

    def describe(self) -> dict[str, dict[str, Any]]:
        """By field, in plain values: ``low``, ``high`` (both inclusive), ``log`` and ``is_integer``, or ``choices``."""
        return {name: _describe(domain) for name, domain in self.domains.items()}

    def holds(self, point: Mapping[str, Any]) -> bool:
        """Whether a searcher could have drawn this point."""
        return all(_holds(_describe(domain), point[name]) for name, domain in self.domains.items())


def load_space(source: str) -> Space:
    """The space of that name, or of the Python file at that path.

    Raises: ValueError for an unknown name, a file that cannot be run or holds no space, a field that no run has (with
        the nearest one that it has) or that is not searched, and a range that goes where the field cannot.
    """
    module = _module(source)
    space = Space(Path(source).stem, _domains(module, source), _points(module, source))
    known = RunConfig().flatten()
    for name in space.domains:
        if name not in known:
            raise ValueError(f"the space {source} names {name!r}, which no run has{nearest(name, known)}")
        if name not in fields_marked("searched"):
            raise ValueError(
                f"the space {source} varies {name}, and then trials could not be compared; "
                f"give it once for the whole sweep, as --{name.replace('_', '-')}"
            )
    for name, domain in space.domains.items():
        described = _describe(domain)
        for value in described.get("choices") or (described["low"], described["high"]):
            _check_value(source, name, value)
    for point in space.points:
        if set(point) != set(space.domains):
            raise ValueError(
                f"a point of the space {source} has {', '.join(point) or 'nothing'}; expected a value for each of "
                f"{', '.join(space.domains)}"
            )
        for name, value in point.items():
            _check_value(source, name, value)
    return space


def _module(source: str) -> ModuleType:
    if source in SPACES:
        return importlib.import_module(f"tune_spaces.{source}")
    path = Path(source).expanduser()
    if path.suffix != ".py" and not path.is_file():
        raise ValueError(
            f"there is no space {source!r}; spaces are {', '.join(SPACES)}, and a file named *.py is read as one"
            f"{nearest(source, SPACES)}"
        )
    spec = importlib.util.spec_from_file_location(f"space_of_{path.stem}", path)
    if not path.is_file() or spec is None or spec.loader is None:
        raise ValueError(f"--space names {source}, which is not a Python file")
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise ValueError(f"the space {source} cannot be run: {type(error).__name__}: {error}") from error
    return module


def _domains(module: ModuleType, source: str) -> dict[str, Domain]:
    space = getattr(module, "SPACE", None)
    if not isinstance(space, Mapping) or not space:
        raise ValueError(
            f"{source} holds no space: expected SPACE = {{'objective.soft_logits': tune.loguniform(2, 200)}}"
        )
    for name, domain in space.items():
        _describe_or_refuse(source, str(name), domain)
    return {str(name): domain for name, domain in space.items()}


def _points(module: ModuleType, source: str) -> tuple[Mapping[str, Any], ...]:
    points = getattr(module, "POINTS", ())
    if not isinstance(points, Sequence) or not all(isinstance(point, Mapping) for point in points):
        raise ValueError(f"POINTS of {source} is no list of points such as {{'objective.soft_logits': 20.0}}")
    return tuple(dict(point) for point in points)


def _describe_or_refuse(source: str, name: str, domain: Any) -> None:
    sampler = domain.get_sampler() if isinstance(domain, (Float, Integer, Categorical)) else None
    plain = sampler.sampler if isinstance(sampler, Quantized) else sampler
    if not isinstance(plain, (Uniform, LogUniform)) or (isinstance(plain, LogUniform) and plain is not sampler):
        raise ValueError(
            f"the space {source} has {domain!r} for {name}; expected one of ray.tune's uniform, quniform, loguniform, "
            "randint, qrandint, lograndint and choice"
        )
    described = _describe(domain)
    if "choices" not in described and not described["low"] < described["high"]:
        raise ValueError(f"the space {source} has an empty range for {name}: {described['low']} … {described['high']}")


def _describe(domain: Domain) -> dict[str, Any]:
    if isinstance(domain, Categorical):
        return {"choices": tuple(domain.categories)}
    assert isinstance(domain, (Float, Integer))
    sampler, is_integer = domain.get_sampler(), isinstance(domain, Integer)
    # ray.tune's whole numbers stop below the upper bound, those in steps at it.
    high = domain.upper - 1 if is_integer and not isinstance(sampler, Quantized) else domain.upper
    return {"low": domain.lower, "high": high, "log": isinstance(sampler, LogUniform), "is_integer": is_integer}


def _holds(described: Mapping[str, Any], value: Any) -> bool:
    if "choices" in described:
        return value in described["choices"]
    return isinstance(value, (int, float)) and described["low"] <= value <= described["high"]


def _check_value(source: str, name: str, value: Any) -> None:
    try:
        RunConfig().override({name: value})
    except ValueError as error:
        raise ValueError(f"the space {source} goes too far: {error}") from error
