"""Search spaces by name or file, checked against the fields of a run before anything is trained.

A space is a module with ``SPACE``, from dotted fields to sampling functions of ``ray.tune``, and, if wanted,
``POINTS``: a list of points to try first, each with a value for every field of the space.
"""

from __future__ import annotations

import runpy
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from ray.tune.search.optuna import OptunaSearch

from kdltr_core.config import RunConfig, fields_marked, nearest
from tune_spaces import SPACES


@dataclass(frozen=True)
class Space:
    """Fields and what they are drawn from.

    Attributes:
        distributions: Optuna's, by dotted field.
        points: to try first, as the file has them.
    """

    distributions: Mapping[str, BaseDistribution]
    points: tuple[Mapping[str, Any], ...] = ()

    def describe(self) -> dict[str, str]:
        """By field, in Optuna's words: ``FloatDistribution(high=200.0, log=True, low=2.0, step=None)``."""
        return {name: str(distribution) for name, distribution in self.distributions.items()}

    def holds(self, point: Mapping[str, Any]) -> bool:
        """Whether a sampler could have drawn this point."""
        try:
            optuna.create_trial(params=dict(point), distributions=dict(self.distributions), value=0.0)
        except ValueError:
            return False
        return True


def load_space(source: str) -> Space:
    """The space of that name, or of the Python file at that path.

    Raises: ValueError for an unknown name, a file that cannot be run or holds no space, a field that no run has (with
        the nearest one that it has) or that is not searched, and a range that goes where the field cannot.
    """
    found = _contents(source)
    space = Space(_distributions(found.get("SPACE"), source), tuple(found.get("POINTS", ())))
    known = RunConfig().flatten()
    for name, distribution in space.distributions.items():
        if name not in known:
            raise ValueError(f"the space {source} names {name!r}, which no run has{nearest(name, known)}")
        if name not in fields_marked("searched"):
            raise ValueError(
                f"the space {source} varies {name}, and then trials could not be compared; "
                f"give it once for the whole sweep, as --{name.replace('_', '-')}"
            )
        for value in _extremes(distribution):
            _check(source, {name: value})
    for point in space.points:
        if not isinstance(point, Mapping) or set(point) != set(space.distributions):
            raise ValueError(
                f"POINTS of the space {source} has {point!r}; expected points, each with a value for "
                f"{', '.join(space.distributions)}"
            )
        _check(source, point)
    return space


def _contents(source: str) -> dict[str, Any]:
    path = Path(__file__).with_name(f"{source}.py") if source in SPACES else Path(source).expanduser()
    if not path.is_file():
        raise ValueError(
            f"there is no space {source!r}; spaces are {', '.join(SPACES)}, or a Python file{nearest(source, SPACES)}"
        )
    try:
        return runpy.run_path(str(path))
    except Exception as error:
        raise ValueError(f"the space {source} cannot be run: {type(error).__name__}: {error}") from error


def _distributions(space: Any, source: str) -> dict[str, BaseDistribution]:
    try:
        found = OptunaSearch.convert_search_space(space) if isinstance(space, dict) else {}
    except ValueError as error:
        raise ValueError(f"the space {source}: {error}") from error
    if not found or len(found) < len(space):
        raise ValueError(
            f"{source} holds no space: expected SPACE = {{'objective.soft_logits': tune.loguniform(2, 200)}}, from "
            "fields to ray.tune's uniform, quniform, loguniform, randint, qrandint, lograndint or choice"
        )
    return found


def _extremes(distribution: BaseDistribution) -> tuple[Any, ...]:
    if isinstance(distribution, CategoricalDistribution):
        return distribution.choices
    assert isinstance(distribution, (FloatDistribution, IntDistribution))
    return distribution.low, distribution.high


def _check(source: str, point: Mapping[str, Any]) -> None:
    try:
        RunConfig().override(point)
    except ValueError as error:
        raise ValueError(f"the space {source} goes too far: {error}") from error
