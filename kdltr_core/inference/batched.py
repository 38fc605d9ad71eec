"""Predictions of a whole set, batch by batch: by a recognizer, or any function from a batch to predictions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import numpy as np
import torch
from torch import Tensor

from kdltr_core.data.pack import Pairs
from kdltr_core.data.prefetch import prefetch
from kdltr_core.distributed import DistributedContext
from kdltr_core.files import Progress
from kdltr_core.inference.captured import LogitsReader
from kdltr_core.recognizers import Recognizer
from kdltr_core.recognizers.decoding import Prediction, decode_with_confidence

IMAGES = ("high_res", "low_res", "enlarged")
EVALUATION_BATCH = 128

Read = TypeVar("Read")


class KeyedPairs(Pairs, Protocol):
    """A set whose words have names in their source, such as a pack."""

    @property
    def keys(self) -> list[str]: ...


@dataclass(frozen=True)
class WordBatch:
    """Some words of a set.

    Attributes:
        set_name: of the set.
        pairs: the set, a ``Pack`` or what looks like one.
        indices: (N,) which of its words.
        high_res: (N, 3, 32, 128) uint8.
        low_res: (N, 3, 16, 64) uint8.
    """

    set_name: str
    pairs: Any
    indices: np.ndarray
    high_res: Tensor
    low_res: Tensor


BatchReader = Callable[[WordBatch], list[Prediction]]


def recognizer_reader(module: Recognizer, image: str, device: torch.device, precision: str = "float32") -> BatchReader:
    """A recognizer, in the mode it is in, as a reader of one kind of image.

    Args:
        image: "high_res", "low_res", or "enlarged" (low_res, bicubic, for a teacher).
        precision: as for ``device.autocast``.

    Raises: ValueError for another kind of image.
    """
    logits_of = logits_reader(module, image, device, precision)
    return lambda batch: decode_with_confidence(logits_of(batch), module.charset, module.temperature)


def logits_reader(
    module: Recognizer, image: str, device: torch.device, precision: str = "float32"
) -> Callable[[WordBatch], Tensor]:
    """As ``recognizer_reader``, for the logits (N, T, classes)."""
    if image not in IMAGES:
        raise ValueError(f"unknown column {image!r}; expected 'high_res', 'low_res' or 'enlarged'")

    read = LogitsReader(module, device, precision, enlarges=image == "enlarged")
    return lambda batch: read(batch.high_res if image == "high_res" else batch.low_res)


def read_set(
    reader: Callable[[WordBatch], Sequence[Read]],
    pairs: Any,
    *,
    batch_size: int = EVALUATION_BATCH,
    set_name: str = "",
    rows: np.ndarray | None = None,
    world: DistributedContext | None = None,
    progress: Progress | None = None,
) -> list[Read]:
    """What the reader gives for every word of a set, in its order, on every worker; each word is read by exactly one.

    Args:
        rows: (N,) different words that are read, in their order; None: all.
        batch_size: of each worker.
        progress: called with (words read by this worker, words it has to read).
    """
    world = world or DistributedContext()
    rows = np.arange(len(pairs)) if rows is None else rows
    mine = rows[world.rank :: world.size]
    found: dict[int, Read] = {}
    parts = [mine[start : start + batch_size] for start in range(0, len(mine), batch_size)]
    for indices, high_res, low_res in prefetch(lambda indices: (indices, *pairs.gather(indices)), parts, num_threads=1):
        words = reader(WordBatch(set_name, pairs, indices, high_res, low_res))
        found.update(zip(indices.tolist(), words, strict=True))
        if progress:
            progress(len(found), len(mine))
    everywhere = {row: word for part in world.gather(found) for row, word in part.items()}
    return [everywhere[row] for row in rows.tolist()]


def read_with_recognizer(
    module: Recognizer,
    pairs: Any,
    image: str,
    *,
    batch_size: int = EVALUATION_BATCH,
    world: DistributedContext | None = None,
    precision: str = "auto",
    progress: Progress | None = None,
) -> list[Prediction]:
    """As ``read_set``, by a recognizer in evaluation mode; afterwards it is in the mode it was in.

    All read with the weights and running statistics of the first worker, whose recognizer is the one that is kept.
    """
    world = world or DistributedContext()
    reader = recognizer_reader(module, image, world.device, precision)
    world.share(module)
    was_training = module.training
    module.eval()
    words = read_set(reader, pairs, batch_size=batch_size, world=world, progress=progress)
    module.train(was_training)
    return words
