"""How word accuracy falls as low_res gets worse, corruption by corruption and level by level."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import cast

import torch
from torch import nn

from kdltr_core.charset import Protocol
from kdltr_core.data.native_images import NativeImages
from kdltr_core.evaluation.benchmarks import read_benchmarks
from kdltr_core.evaluation.corruptions import LEVELS, NATIVE, UNCORRUPTED, CorruptedPairs, Corruption
from kdltr_core.evaluation.readings import Column
from kdltr_core.evaluation.table import BenchmarkTable
from kdltr_core.inference.batched import BatchReader, KeyedPairs, recognizer_reader
from kdltr_core.metrics import standard_error
from kdltr_core.recognizers import Recognizer

Readers = Mapping[Column, Recognizer | BatchReader]


def level_label(corruption: Corruption, level: float) -> str:
    """As an axis has it: ``0.5``, ``16×64``, ``native``."""
    if corruption != "resolution":
        return f"{level:g}"
    return "native" if level == NATIVE else f"{level:g}×{4 * level:g}"


@dataclass(frozen=True)
class RobustnessCurves:
    """Accuracy in [0, 1] by corruption, reader, and level as in ``LEVELS``.

    Attributes:
        num_words: read at every level.
        num_words_in_all: of the sets, of which those are a sample unless they are all.
    """

    protocol: Protocol
    num_words: int
    num_words_in_all: int
    accuracies: Mapping[Corruption, Mapping[Column, tuple[float, ...]]]

    @property
    def caption(self) -> str:
        """Which words were read."""
        if self.num_words == self.num_words_in_all:
            return f"all {self.num_words} words"
        return f"a seeded sample of {self.num_words} of the {self.num_words_in_all} words"

    def errors(self, shares: tuple[float, ...]) -> list[float]:
        """One standard error of each."""
        return [standard_error(share, self.num_words) for share in shares]

    def to_tree(self) -> dict[str, object]:
        return {
            "protocol": self.protocol,
            "num_words": self.num_words,
            "num_words_in_all": self.num_words_in_all,
            "curves": {
                name: {
                    "levels": [level_label(name, level) for level in LEVELS[name]],
                    "accuracy": {c.key: values for c, values in by_column.items()},
                    "standard_error": {c.key: self.errors(values) for c, values in by_column.items()},
                }
                for name, by_column in self.accuracies.items()
            },
        }

    @property
    def columns(self) -> list[Column]:
        return list(next(iter(self.accuracies.values())))


def measure_robustness(
    readers: Readers,
    packs: Mapping[str, KeyedPairs],
    *,
    batch_size: int,
    num_words_in_all: int | None = None,
    native: NativeImages | None = None,
    protocol: Protocol = "36",
    precision: str = "auto",
    progress: Callable[[int, int], None] | None = None,
) -> RobustnessCurves:
    """Read every set at every level of every corruption, by the readers of low_res (students, enlarged teacher).

    A corruption comes on top of what low_res is already; for curves that start at clean images give packs of
    degradation "none". Resolution alone starts from the source: it is brought to the level's height and four times
    as many columns, and then to the size that the reader takes, which for a teacher is 32×128.

    Args:
        packs: by set name; see ``sample_words``.
        num_words_in_all: of which the packs are a sample; None: they are all.
        native: the sources; None leaves the resolution out.

    Raises: ValueError if nobody reads low_res.
    """
    readers = {column: reader for column, reader in readers.items() if column.image != "high_res"}
    names: list[Corruption] = [name for name in LEVELS if name != "resolution" or native is not None]
    rounds = [(name, level) for name in names for level in LEVELS[name]]
    accuracies: dict[Corruption, dict[Column, list[float]]] = {n: {c: [] for c in readers} for n in names}
    uncorrupted: BenchmarkTable | None = None
    for done, (name, level) in enumerate(rounds):

        def advance(part: int, whole: int, done: int = done) -> None:
            if progress is not None:
                progress(done * whole + part, len(rounds) * whole)

        changes_nothing = UNCORRUPTED.get(name) == level
        if uncorrupted is None or not changes_nothing:
            table = read_benchmarks(
                _of_both_sizes(readers, precision) if name == "resolution" else readers,
                {set_name: CorruptedPairs(p, name, level, set_name, native) for set_name, p in packs.items()},
                batch_size=batch_size,
                protocol=protocol,
                precision=precision,
                progress=advance,
            )
        else:
            table = uncorrupted
        uncorrupted = table if changes_nothing else uncorrupted
        for column in readers:
            accuracies[name][column].append(table.weighted(column)[0])
    num_words = sum(map(len, packs.values()))
    frozen = {name: {c: tuple(v) for c, v in by_column.items()} for name, by_column in accuracies.items()}
    return RobustnessCurves(protocol, num_words, num_words_in_all or num_words, frozen)


def _of_both_sizes(readers: Readers, precision: str) -> dict[Column, Recognizer | BatchReader]:
    """Teachers read the picture at the size they take, not one enlarged from 16×64."""
    changed: dict[Column, Recognizer | BatchReader] = {}
    for column, reader in readers.items():
        changed[column] = reader
        if column.image == "enlarged" and isinstance(reader, nn.Module):
            device = next((p.device for p in reader.parameters()), torch.device("cpu"))
            changed[column] = recognizer_reader(cast(Recognizer, reader.eval()), "high_res", device, precision)
    return changed
