"""Population-based training (Jaderberg et al. 2017): who takes over whose weights, and with which values.

Ray Tune's own scheduler remembers this as of its last snapshot, lets values leave the space and multiplies choices.
Here a decision is a function of what was read, and written down before anything follows from it.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from random import Random
from typing import Any

from kdltr_core.changes import CHANGEABLE, WEIGHTS
from kdltr_core.config import RunConfig
from tune_spaces.space import Space

# The worst quarter goes on from the best quarter; a value is drawn anew with this probability, else moved a little.
SHARE, RESAMPLED, FACTORS = 0.25, 0.25, (0.8, 1.2)


@dataclass(frozen=True)
class Copy:
    """One trial goes on from another's weights, with these values from there on."""

    to: int
    of: int
    values: Mapping[str, Any]


def round_ends(num_rounds: int) -> list[float]:
    """In percent of a trial's length."""
    return [100 * (place + 1) / num_rounds for place in range(num_rounds)]


def choose_copies(accuracies: Mapping[int, float], kept: Collection[int], random: Random) -> dict[int, int]:
    """Which trial takes over the weights of which: the worst quarter those of any of the best quarter.

    Args:
        accuracies: of the trials by number, in %.
        kept: trials that go on as they are; their weights may be taken over.
    """
    ranked = sorted(accuracies, key=lambda number: (-accuracies[number], number))
    size = max(1, int(SHARE * len(ranked)))
    best, worst = ranked[:size], [number for number in ranked[size:] if number not in kept][-size:]
    chosen = {number: random.choice(best) for number in worst}
    return {to: of for to, of in chosen.items() if accuracies[of] > accuracies[to]}


def check_population(space: Space, config: RunConfig, num_rounds: int) -> None:
    """Raises: ValueError if no population can be made of the space, or no rounds of trials of this config."""
    if config.changes:
        raise ValueError(
            f"--scheduler pbt finds out what changes while a run trains, and the config has changes of its own "
            f"({'; '.join(config.changes)}); leave them out, or use asha or none"
        )
    if not CHANGEABLE & space.domains.keys():
        raise ValueError(
            f"--scheduler pbt changes points while trials train, and of the space {space.name} nothing can change then "
            f"({', '.join(space.domains)}); use asha or none, or a space with one of {', '.join(sorted(CHANGEABLE))}"
        )
    num_steps = config.num_steps
    if num_steps is None and "optim.batch_size" in space.domains:
        raise ValueError(
            f"the space {space.name} varies optim.batch_size, and trials whose length is given in epochs then differ "
            "in their steps, so that none can go on from another's weights; give --trial-steps"
        )
    if num_steps is not None and num_steps < num_rounds:
        raise ValueError(
            f"trials of {num_steps} steps have no {num_rounds} rounds; give fewer --rounds, or more --trial-steps"
        )


def explore(point: Mapping[str, Any], space: Space, random: Random) -> dict[str, Any]:
    """Other values for what of a point may change while a run trains, inside the space.

    Each is drawn anew or moved: a number by a fifth up or down, whole numbers by one at least, a choice to a
    neighbour. A term of the loss that is left out stays left out, and one that is there stays there.
    """
    values: dict[str, Any] = {}
    for name, described in space.describe().items():
        if name not in CHANGEABLE:
            continue
        was = point[name]
        is_drawn = random.random() < RESAMPLED
        moved = space.draw(random.randrange(2**32))[name] if is_drawn else _moved(was, described, random)
        values[name] = was if name in WEIGHTS and (was == 0) != (moved == 0) else moved
    return values


def _moved(value: Any, described: Mapping[str, Any], random: Random) -> Any:
    factor = random.choice(FACTORS)
    if "choices" in described:
        choices = list(described["choices"])
        place = choices.index(value) + (1 if factor > 1 else -1) if value in choices else random.randrange(len(choices))
        return choices[min(max(place, 0), len(choices) - 1)]
    moved = value * factor
    if described["is_integer"]:
        moved = max(round(moved), value + 1) if factor > 1 else min(round(moved), value - 1)
    return min(max(moved, described["low"]), described["high"])


class Decisions:
    """What was decided at the end of each round, in a file; once made, a decision stands."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._made: dict[str, list[dict[str, Any]]] = json.loads(path.read_text()) if path.exists() else {}

    def at(self, percent: float) -> list[Copy] | None:
        """None before one was made."""
        made = self._made.get(repr(percent))
        return None if made is None else [Copy(**copy) for copy in made]

    def make(self, percent: float, copies: Collection[Copy]) -> None:
        self._made[repr(percent)] = [asdict(copy) for copy in copies]
        writing = self._path.with_name(f".{self._path.name}.writing")
        writing.write_text(json.dumps(self._made, indent=1), encoding="utf-8")
        writing.replace(self._path)
