"""How long each reader takes for a word, one word at a time."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

import numpy as np

from kdltr_core.evaluation.readings import Column
from kdltr_core.inference.batched import BatchReader, KeyedPairs, WordBatch


def measure_times(
    readers: Mapping[Column, BatchReader],
    packs: Mapping[str, KeyedPairs],
    *,
    progress: Callable[[int, int], None] | None = None,
) -> dict[Column, float]:
    """Median milliseconds a word, from uint8 pixels to text; the readers take turns at every word.

    Taking turns, all of them meet what else the machine does. The first word of each reader is read twice, and its
    first time is not counted.
    """
    words = [(name, pack, row) for name, pack in packs.items() for row in range(len(pack))]
    seconds: dict[Column, list[float]] = {column: [] for column in readers}
    for done, (name, pack, row) in enumerate(words):
        indices = np.array([row])
        batch = WordBatch(name, pack, indices, *pack.gather(indices))
        for column, read in readers.items():
            if not seconds[column]:
                read(batch)
            started = time.perf_counter()
            read(batch)
            seconds[column].append(time.perf_counter() - started)
        if progress is not None:
            progress(done + 1, len(words))
    return {column: 1000 * float(np.median(taken)) for column, taken in seconds.items()}
