"""Reading many images: opened ahead in threads, read in batches, in order; what cannot be opened is passed over."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Literal

import numpy as np
import torch

from kdltr_core.data.open_image import open_image
from kdltr_core.data.rejected import RecordError
from kdltr_core.inference.reader import BaseReader, Prediction, UnreadableImage
from pipelines.prediction.sources import Skipped, Source

Box = tuple[tuple[float, float], tuple[float, float], tuple[float, float], tuple[float, float]]
"""(x, y) of the corners, in pixels of the upright image, clockwise from where the text begins"""

# Batches that are opened ahead. Only what the recognizer sees of an image is kept.
BATCHES_AHEAD = 3


@dataclass(frozen=True)
class Cut:
    """A word in an image.

    Attributes:
        pixels: (h, w, 3) uint8, as the recognizer takes them.
        box: where it is; None: the image is the word.
    """

    pixels: np.ndarray
    box: Box | None = None


@dataclass(frozen=True)
class Row:
    """A word that was read, in which image."""

    image: str
    word: Prediction
    box: Box | None = None


@dataclass(frozen=True)
class Chunk:
    """What came of the next images.

    Attributes:
        num_images: how many these were.
    """

    rows: list[Row]
    skipped: list[Skipped]
    num_images: int


Cutter = Callable[[Source], list[Cut]]
"""Raises UnreadableImage or RecordError for an image that is to be passed over; threads call it at once."""


def cutter_for(reader: BaseReader, cutting: Literal["off", "words", "lines"], num_threads: int) -> Cutter:
    """What the student is shown of an image.

    Args:
        cutting: what the detector is to find in it; off: the image is the word.
        num_threads: of the detector.

    Raises: ValueError if the detector is not installed.
    """
    if cutting == "off":
        return lambda source: [Cut(reader.pixels(source.load(), source.name))]
    from pipelines.prediction.detector import WordDetector

    return words_in_picture(reader, WordDetector(cutting, num_threads).find)


def words_in_picture(reader: BaseReader, find: Callable[[np.ndarray], list[tuple[np.ndarray, np.ndarray]]]) -> Cutter:
    """Images that are whole pictures.

    Args:
        find: from a picture, (H, W, 3) uint8, to corners (4, 2) and image of each word; threads call it at once.
    """

    def cut(source: Source) -> list[Cut]:
        picture = np.asarray(open_image(source.load(), reader.max_pixels, source.name))
        return [Cut(reader.pixels(image), _as_box(corners)) for corners, image in find(picture)]

    return cut


def read_images(reader: BaseReader, cutter: Cutter, sources: Sequence[Source], num_threads: int) -> Iterator[Chunk]:
    """All images in their order, some at a time."""
    waiting: list[tuple[str, Cut]] = []
    skipped: list[Skipped] = []
    num_images = 0
    for source, cuts in _opened(cutter, sources, num_threads, BATCHES_AHEAD * reader.batch_size):
        num_images += 1
        if isinstance(cuts, Skipped):
            skipped.append(cuts)
        else:
            waiting += ((source.name, cut) for cut in cuts)
        if len(waiting) >= reader.batch_size or num_images >= BATCHES_AHEAD * reader.batch_size:
            yield Chunk(_read(reader, waiting), skipped, num_images)
            waiting, skipped, num_images = [], [], 0
    if num_images:
        yield Chunk(_read(reader, waiting), skipped, num_images)


def _opened(
    cutter: Cutter, sources: Sequence[Source], num_threads: int, num_ahead: int
) -> Iterator[tuple[Source, list[Cut] | Skipped]]:
    threads = ThreadPoolExecutor(num_threads, thread_name_prefix="open")
    ahead: deque[tuple[Source, Future[list[Cut] | Skipped]]] = deque()
    attempt = partial(_cut_or_skip, cutter)
    try:
        for source in sources:
            ahead.append((source, threads.submit(attempt, source)))
            if len(ahead) > num_ahead:
                source, future = ahead.popleft()
                yield source, future.result()
        while ahead:
            source, future = ahead.popleft()
            yield source, future.result()
    finally:
        threads.shutdown(cancel_futures=True)


def _cut_or_skip(cutter: Cutter, source: Source) -> list[Cut] | Skipped:
    try:
        return cutter(source)
    except UnreadableImage as error:
        return Skipped(source.name, error.reason)
    except RecordError as error:
        return Skipped(source.name, error.reason)


def _as_box(corners: np.ndarray) -> Box:
    first, second, third, fourth = ((float(x), float(y)) for x, y in corners)
    return first, second, third, fourth


def _read(reader: BaseReader, waiting: Sequence[tuple[str, Cut]]) -> list[Row]:
    if not waiting:
        return []
    pixels = torch.from_numpy(np.stack([cut.pixels for _, cut in waiting])).permute(0, 3, 1, 2)
    words = reader.read_pixels(pixels)
    return [Row(name, word, cut.box) for (name, cut), word in zip(waiting, words, strict=True)]
