"""Predictions of many images: opened ahead in threads, read in batches, in order; what cannot be opened is skipped."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from kdltr_core.data.images import open_image
from kdltr_core.data.prefetch import prefetch
from kdltr_core.data.rejected import RecordError
from kdltr_core.inference.reader import BaseReader, Prediction, UnreadableImage
from pipelines.prediction.doubt import Doubt, doubt_of, widest_gap
from pipelines.prediction.sources import Skipped, Source

Box = list[list[float]]
"""Four corners [x, y], in pixels of the upright image, clockwise from where the text begins"""

# Images after whose words are read and handed on, however few they are.
BATCHES_IN_A_CHUNK = 3


@dataclass(frozen=True)
class Crop:
    """A word in an image.

    Attributes:
        pixels: (h, w, 3) uint8, as the recognizer takes them.
        size: (width, height) of the crop before it was resized.
        gap: the widest in its text, as ``widest_gap`` has it.
        box: where it is; None: the image is the word.
    """

    pixels: np.ndarray
    size: tuple[int, int]
    gap: float
    box: Box | None = None


@dataclass(frozen=True)
class PredictedWord:
    """What was read, in which image, where in it, and why it may not be all."""

    image: str
    prediction: Prediction
    box: Box | None = None
    doubt: Doubt | None = None


@dataclass(frozen=True)
class Chunk:
    """What came of the next ``num_images`` images."""

    words: list[PredictedWord]
    skipped: list[Skipped]
    num_images: int


Cropper = Callable[[Source], list[Crop]]
"""Raises UnreadableImage or RecordError for an image that is to be skipped; threads call it at once."""


def cropper_for(reader: BaseReader, detects: bool, num_threads: int) -> Cropper:
    """What the student is shown of an image.

    Args:
        detects: whether a detector finds the words in it; else the image is the word.
        num_threads: of the detector.

    Raises: ValueError if the detector is not installed.
    """
    if not detects:

        def whole(source: Source) -> list[Crop]:
            picture = open_image(source.load(), reader.max_pixels, source.name)
            return [Crop(reader.pixels(picture), picture.size, widest_gap(picture))]

        return whole
    from kdltr_core.inference.detector import WordDetector

    detector = WordDetector(num_threads)

    def crop(source: Source) -> list[Crop]:
        picture = np.asarray(open_image(source.load(), reader.max_pixels, source.name))
        found = [(corners, Image.fromarray(image)) for corners, image in detector.find(picture)]
        return [Crop(reader.pixels(word), word.size, widest_gap(word), corners.tolist()) for corners, word in found]

    return crop


def predict_images(reader: BaseReader, crop: Cropper, sources: Sequence[Source], num_threads: int) -> Iterator[Chunk]:
    """All images in their order, some at a time."""

    def attempt(source: Source) -> tuple[Source, list[Crop] | Skipped]:
        try:
            return source, crop(source)
        except (UnreadableImage, RecordError) as error:
            return source, Skipped(source.name, error.reason)

    waiting: list[tuple[str, Crop]] = []
    skipped: list[Skipped] = []
    num_images = 0
    for source, found in prefetch(attempt, sources, num_threads):
        num_images += 1
        if isinstance(found, Skipped):
            skipped.append(found)
        else:
            waiting += ((source.name, word) for word in found)
        if len(waiting) >= reader.batch_size or num_images >= BATCHES_IN_A_CHUNK * reader.batch_size:
            yield Chunk(_predict(reader, waiting), skipped, num_images)
            waiting, skipped, num_images = [], [], 0
    if num_images:
        yield Chunk(_predict(reader, waiting), skipped, num_images)


def _predict(reader: BaseReader, crops: Sequence[tuple[str, Crop]]) -> list[PredictedWord]:
    if not crops:
        return []
    predictions = reader.read_pictures([crop.pixels for _, crop in crops])
    return [
        PredictedWord(name, word, crop.box, doubt_of(crop.size, crop.gap, word))
        for (name, crop), word in zip(crops, predictions, strict=True)
    ]
