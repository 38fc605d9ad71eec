"""Robustness: how word accuracy falls as low_res gets worse, by corruption and severity."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import cast

import torch
from torch import nn

from kdltr_core.charset import Protocol
from kdltr_core.data.images import NativeImages
from kdltr_core.evaluation.benchmarks import BenchmarkReader, read_benchmarks
from kdltr_core.evaluation.corruptions import NATIVE, SEVERITIES, CorruptedPairs, Corruption
from kdltr_core.evaluation.table import BenchmarkTable, Column
from kdltr_core.inference.batched import KeyedPairs, recognizer_reader
from kdltr_core.metrics import standard_error
from kdltr_core.recognizers import Recognizer


def severity_label(corruption: Corruption, severity: float) -> str:
    """As an axis has it: ``0.5``, ``16×64``, ``native``."""
    if corruption != "resolution":
        return f"{severity:g}"
    return "native" if severity == NATIVE else f"{severity:g}×{4 * severity:g}"


@dataclass(frozen=True)
class RobustnessCurves:
    """Accuracy in [0, 1] by corruption, reader, and severity as in ``SEVERITIES``.

    Attributes:
        num_words: read at every severity.
        num_words_in_all: of the sets, of which those are a sample unless they are all.
    """

    protocol: Protocol
    num_words: int
    num_words_in_all: int
    accuracies: Mapping[Corruption, Mapping[Column, tuple[float, ...]]]

    @property
    def columns(self) -> list[Column]:
        return list(next(iter(self.accuracies.values())))

    @property
    def caption(self) -> str:
        """Which words were read."""
        if self.num_words == self.num_words_in_all:
            return f"all {self.num_words} words"
        return f"a seeded sample of {self.num_words} of the {self.num_words_in_all} words"

    def errors(self, accuracies: Sequence[float]) -> list[float]:
        """One standard error of each."""
        return [standard_error(accuracy, self.num_words) for accuracy in accuracies]

    def to_tree(self) -> dict[str, object]:
        return {
            "protocol": self.protocol,
            "num_words": self.num_words,
            "num_words_in_all": self.num_words_in_all,
            "curves": {
                name: {
                    "severities": [severity_label(name, severity) for severity in SEVERITIES[name]],
                    "accuracy": {c.key: values for c, values in by_column.items()},
                    "standard_error": {c.key: self.errors(values) for c, values in by_column.items()},
                }
                for name, by_column in self.accuracies.items()
            },
        }


def conditions(native: bool) -> list[tuple[Corruption, float]]:
    """Every corruption at each of its severities; resolution only where the sources are at hand."""
    return [(n, s) for n, severities in SEVERITIES.items() if n != "resolution" or native for s in severities]


def measure_robustness(
    readers: Sequence[BenchmarkReader],
    packs: Mapping[str, KeyedPairs],
    *,
    batch_size: int,
    num_words_in_all: int | None = None,
    native: NativeImages | None = None,
    protocol: Protocol = "36",
    progress: Callable[[int, int], None] | None = None,
) -> RobustnessCurves:
    """Read every set at every severity of every corruption, by the readers of low_res (students, enlarged teacher).

    A corruption comes on top of what low_res is already; for curves that start at clean images give packs of
    degradation "none". Resolution alone starts from the source: it is brought to the severity's height and four times
    as many columns, and then to the size that the reader takes, which for a teacher is 32×128.

    Args:
        packs: by set name; see ``sample_words``.
        num_words_in_all: of which the packs are a sample; None: they are all.
        native: the sources; None leaves the resolution out.

    Raises: ValueError if nobody reads low_res.
    """
    readers = [reader for reader in readers if reader.column.image != "high_res"]
    wanted = conditions(native is not None)
    tables: dict[tuple[Corruption, float], BenchmarkTable] = {}
    for done, (name, severity) in enumerate(wanted):

        def advance(part: int, whole: int, done: int = done) -> None:
            if progress is not None:
                progress(done * whole + part, len(wanted) * whole)

        tables[name, severity] = read_benchmarks(
            [_at_own_size(reader) for reader in readers] if name == "resolution" else readers,
            {set_name: CorruptedPairs(p, name, severity, set_name, native) for set_name, p in packs.items()},
            batch_size=batch_size,
            protocol=protocol,
            progress=advance,
        )
    accuracies: dict[Corruption, Mapping[Column, tuple[float, ...]]] = {
        name: {r.column: tuple(tables[name, s].weighted(r.column)[0] for s in SEVERITIES[name]) for r in readers}
        for name in dict.fromkeys(name for name, _ in wanted)
    }
    num_words = tables[wanted[0]].num_words
    return RobustnessCurves(protocol, num_words, num_words_in_all or num_words, accuracies)


def _at_own_size(reader: BenchmarkReader) -> BenchmarkReader:
    """Teachers read the picture at the size they take, not one enlarged from 16×64."""
    if reader.column.image != "enlarged" or not isinstance(reader.read, nn.Module):
        return reader
    device = next((p.device for p in reader.read.parameters()), torch.device("cpu"))
    return replace(reader, read=recognizer_reader(cast(Recognizer, reader.read.eval()), "high_res", device))
