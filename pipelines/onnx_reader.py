"""Reading words with an exported ONNX file: called as ``kdltr_core.reader.Reader`` is."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from PIL import Image

from kdltr_core.data.images import resize
from kdltr_core.data.open_image import MAX_PIXELS, ImageSource, open_image
from kdltr_core.recognizers.reading import ReadWord


class OnnxReader:
    """Reads a word in each image, on the CPU. Threads may share one: a call changes nothing that another sees.

    Args:
        path: of a file that export.py wrote.
        batch_size: images read at a time. The loop of PARSeq's graph ends with the longest word of a batch, and what a
            layer hands on no longer fits a core's cache where a batch is large.
        num_threads: of ONNX Runtime for one call; 0: as many as there are cores.
        max_pixels: images of more are refused.

    Attributes:
        notes: the file's metadata.
        image_size: (height, width) of the pictures it reads.
        characters: class i stands for ``characters[i - 1]``, 0 for the end.

    Raises: ValueError if it is no such file.
    """

    def __init__(
        self, path: str | Path, batch_size: int = 16, num_threads: int = 0, max_pixels: int = MAX_PIXELS
    ) -> None:
        if batch_size < 1:
            raise ValueError(f"batch_size is {batch_size}, expected at least 1")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = num_threads
        options.log_severity_level = 3
        try:
            self._session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
            self.notes: dict[str, str] = self._session.get_modelmeta().custom_metadata_map
            height, width = json.loads(self.notes["image_size"])
            self.characters = self.notes["characters"]
        except Exception as error:  # those of ONNX Runtime have no class in common but this
            raise ValueError(
                f"{path} is not an ONNX file that export.py wrote, or not whole ({str(error).splitlines()[0]})"
            ) from error
        self.image_size: tuple[int, int] = (height, width)
        self.batch_size, self.max_pixels = batch_size, max_pixels

    def __call__(self, images: Sequence[ImageSource]) -> list[ReadWord]:
        """The words of images of any size, as ``open_image`` takes them, in their order.

        Raises: UnreadableImage, which names the first that cannot be read; ValueError for a single image.
        """
        single = isinstance(images, str | bytes | Path | Image.Image)
        if single or (isinstance(images, np.ndarray) and images.ndim != 4):
            raise ValueError("expected a list of images, also of one: reader([image])")
        words: list[ReadWord] = []
        for start in range(0, len(images), self.batch_size):
            numbers = range(start, min(start + self.batch_size, len(images)))
            batch = np.stack([self.pixels(images[number], f"images[{number}]") for number in numbers])
            words += self.read_pixels(batch.transpose(0, 3, 1, 2))
        return words

    def pixels(self, image: ImageSource, name: str = "") -> np.ndarray:
        """What the student is shown of an image: (h, w, 3) uint8. Raises: UnreadableImage."""
        name = "" if isinstance(image, str | Path) else name
        return resize(open_image(image, self.max_pixels, name), self.image_size)

    def read_pixels(self, pixels: Any) -> list[ReadWord]:
        """The words of pictures of the student's size: (N, 3, h, w) uint8, an array or a tensor. Raises: ValueError."""
        pixels = np.asarray(pixels)
        expected = (3, *self.image_size)
        if pixels.dtype != np.uint8 or pixels.ndim != 4 or pixels.shape[1:] != expected:
            raise ValueError(f"pixels are {pixels.dtype} {pixels.shape}, expected uint8 (N, {expected})")
        words: list[ReadWord] = []
        for start in range(0, len(pixels), self.batch_size):
            classes, probabilities = self.run(pixels[start : start + self.batch_size])
            words += [self._word(ids, shares) for ids, shares in zip(classes, probabilities, strict=True)]
        return words

    def run(self, pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The graph's own answer: classes (N, 26) int64 and probabilities (N, 26) float32."""
        classes, probabilities = self._session.run(["classes", "probabilities"], {"pixels": pixels})
        return np.asarray(classes), np.asarray(probabilities)

    def _word(self, ids: np.ndarray, shares: np.ndarray) -> ReadWord:
        text = "".join(self.characters[i - 1] for i in ids if i)
        return ReadWord(text, float(shares.astype(np.float64).prod()), tuple(shares[: len(text)].tolist()))
