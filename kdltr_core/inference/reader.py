"""A finished student as a reader: images in, words with confidences out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from kdltr_core.config import DataConfig
from kdltr_core.data.images import MAX_PIXELS, ImageSource, UnreadableImage, as_float, open_image, resize
from kdltr_core.inference.weights_files import fetch_recognizer, load_recognizer
from kdltr_core.recognizers import Recognizer
from kdltr_core.recognizers.decoding import Prediction, decode_with_confidence

__all__ = ["BaseReader", "Prediction", "Reader", "UnreadableImage", "load_student"]

_CACHE_FOLDER = DataConfig().cache_folder


class BaseReader(ABC):
    """Reads a word in each image. Threads may share one: a call changes nothing that another sees.

    Args:
        image_size: (height, width) of the pictures that it is shown.
        batch_size: images read at a time.
        max_pixels: images of more are refused.

    Raises: ValueError if the batch size is not at least 1.
    """

    def __init__(self, image_size: tuple[int, int], batch_size: int, max_pixels: int) -> None:
        if batch_size < 1:
            raise ValueError(f"batch_size is {batch_size}, expected at least 1")
        self.image_size, self.batch_size, self.max_pixels = image_size, batch_size, max_pixels

    def __call__(self, images: Sequence[ImageSource]) -> list[Prediction]:
        """The words of images of any size, as ``open_image`` takes them, in their order.

        Raises: UnreadableImage, which names the first that cannot be read; ValueError for a single image.
        """
        single = isinstance(images, str | bytes | Path | Image.Image)
        if single or (isinstance(images, np.ndarray) and images.ndim != 4):
            raise ValueError("expected a list of images, also of one: reader([image])")
        words: list[Prediction] = []
        for start in range(0, len(images), self.batch_size):
            numbers = range(start, min(start + self.batch_size, len(images)))
            batch = np.stack([self.pixels(images[number], f"images[{number}]") for number in numbers])
            words += self.read_pixels(torch.from_numpy(batch).permute(0, 3, 1, 2))
        return words

    def pixels(self, image: ImageSource, name: str = "") -> np.ndarray:
        """What is shown of an image: (h, w, 3) uint8. Raises: UnreadableImage."""
        name = "" if isinstance(image, str | Path) else name
        return resize(open_image(image, self.max_pixels, name), self.image_size)

    @abstractmethod
    def read_pixels(self, pixels: Any) -> list[Prediction]:
        """The words of pictures of ``image_size``: a tensor (N, 3, h, w) uint8. Raises: ValueError for others."""


class Reader(BaseReader):
    """With a recognizer.

    Args:
        recognizer: moved to the device, in evaluation mode from here on.
        device: None: a GPU where there is one.
        batch_size, max_pixels: as ``BaseReader`` takes them.

    Raises: ValueError if the device is not there, or as ``BaseReader``.

    Example:
        >>> recognizer = build_student("parseq_tiny")
        >>> load_weights(recognizer, "student.safetensors")
        >>> Reader(recognizer, "cpu")(["plate.png"])[0].text
    """

    def __init__(
        self,
        recognizer: Recognizer,
        device: torch.device | str | None = None,
        batch_size: int = 64,
        max_pixels: int = MAX_PIXELS,
    ) -> None:
        super().__init__(recognizer.image_size, batch_size, max_pixels)
        self.device = _device(device)
        self.recognizer = recognizer.to(self.device).eval()

    @torch.inference_mode()
    def read_pixels(self, pixels: Tensor) -> list[Prediction]:
        """The words of pictures of the recognizer's size: (N, 3, h, w) uint8 on any device. Raises: ValueError."""
        expected = (3, *self.image_size)
        if pixels.dtype != torch.uint8 or pixels.ndim != 4 or tuple(pixels.shape[1:]) != expected:
            raise ValueError(f"pixels are {pixels.dtype} {tuple(pixels.shape)}, expected uint8 (N, {expected})")
        words: list[Prediction] = []
        for batch in pixels.split(self.batch_size) if len(pixels) else ():
            logits = self.recognizer(as_float(batch.to(self.device))).logits
            words += decode_with_confidence(logits.cpu(), self.recognizer.charset)
        return words


def load_student(
    path: str | Path,
    device: torch.device | str | None = None,
    batch_size: int = 64,
    *,
    max_pixels: int = MAX_PIXELS,
    cache_folder: str | Path = _CACHE_FOLDER,
) -> Reader:
    """A reader of images; of a run that made a teacher, the teacher reads them.

    Args:
        path: a run's folder, the student's folder in it, or ``student.safetensors``; a URI of one of them.
        device, batch_size, max_pixels: as ``Reader`` takes them.
        cache_folder: where a student that a URI names is kept.

    Raises: ValueError if there is no student or device; as ``fetch``.

    Example:
        >>> reader = load_student("runs/parseq_tiny_ltr")
        >>> [(word.text, word.confidence) for word in reader(["plate.png", "sign.png"])]
    """
    recognizer = load_recognizer(fetch_recognizer(path, cache_folder))
    return Reader(recognizer, device, batch_size, max_pixels)


def _device(wanted: torch.device | str | None) -> torch.device:
    if wanted is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(wanted)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"there is no device {str(wanted)!r} ({reason}); expected cpu, cuda or cuda:1") from error
    return device
