"""Whole pictures to words: a reader behind a text detector."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from kdltr_core.data.images import ImageSource, open_image
from kdltr_core.inference.detector import WordDetector
from kdltr_core.inference.reader import BaseReader
from kdltr_core.recognizers.decoding import Prediction


@dataclass(frozen=True)
class FoundWord:
    """A word in a picture: what was read, and its corners (4, 2) [x, y] in pixels, clockwise from where it begins."""

    prediction: Prediction
    box: np.ndarray

    @property
    def text(self) -> str:
        return self.prediction.text

    @property
    def confidence(self) -> float:
        """Probability of the whole word, in [0, 1]."""
        return self.prediction.confidence


class PictureReader:
    """Finds the words of whole pictures and reads them; needs ``pip install 'kdltr[detect]'``.

    Args:
        reader: of single words.
        num_threads: of the detector; 0: one per CPU.

    Raises: ValueError if the detector is not installed.

    Example:
        >>> reader = load_student(detect=True)
        >>> [[word.text for word in words] for words in reader(["street.jpg"])]
    """

    def __init__(self, reader: BaseReader, num_threads: int = 0) -> None:
        self.reader, self._detector = reader, WordDetector(num_threads or os.cpu_count() or 1)

    def __call__(self, pictures: Sequence[ImageSource]) -> list[list[FoundWord]]:
        """Of each picture, as ``open_image`` takes them, its words in reading order; none where there is no text.

        Raises: UnreadableImage, which names the first that cannot be read.
        """
        return [self._read(picture, f"pictures[{number}]") for number, picture in enumerate(pictures)]

    def _read(self, picture: ImageSource, name: str) -> list[FoundWord]:
        found = self._detector.find(np.asarray(open_image(picture, self.reader.max_pixels, name)))
        words = self.reader([image for _, image in found])
        return [FoundWord(word, box) for word, (box, _) in zip(words, found, strict=True)]
