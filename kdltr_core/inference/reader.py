"""A finished student as a reader: images in, words with confidences out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, overload

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from kdltr_core.config import HIGH_RES_SIZE, DataConfig
from kdltr_core.data.images import MAX_PIXELS, ImageSource, UnreadableImage, open_image, resize
from kdltr_core.inference.captured import LogitsReader
from kdltr_core.inference.pretrained import DEFAULT_STUDENT
from kdltr_core.inference.weights_files import fetch_recognizer, find_recognizer, load_recognizer
from kdltr_core.recognizers import Recognizer
from kdltr_core.recognizers.decoding import Prediction, decode_with_confidence

if TYPE_CHECKING:
    from kdltr_core.inference.pictures import PictureReader

__all__ = ["BaseReader", "Prediction", "Reader", "UnreadableImage", "load_student"]

# Of a picture's rows; with more of them a teacher reads more than its student.
LARGE_ROWS = 18
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
            words += self.read_pictures([self.pixels(images[number], f"images[{number}]") for number in numbers])
        return words

    def read_pictures(self, pictures: Sequence[np.ndarray]) -> list[Prediction]:
        """The words of what ``pixels`` gave, in their order, those of one size together."""
        words: list[Prediction] = [None] * len(pictures)  # type: ignore[list-item]
        for size in {picture.shape for picture in pictures}:
            places = [place for place, picture in enumerate(pictures) if picture.shape == size]
            batch = torch.from_numpy(np.stack([pictures[place] for place in places])).permute(0, 3, 1, 2)
            for place, word in zip(places, self.read_pixels(batch), strict=True):
                words[place] = word
        return words

    def pixels(self, image: ImageSource, name: str = "") -> np.ndarray:
        """What is shown of an image: (h, w, 3) uint8. Raises: UnreadableImage."""
        name = "" if isinstance(image, str | Path) else name
        picture = open_image(image, self.max_pixels, name)
        return resize(picture, self._size_for(picture))

    def _size_for(self, picture: Image.Image) -> tuple[int, int]:
        return self.image_size

    @abstractmethod
    def read_pixels(self, pixels: Any) -> list[Prediction]:
        """The words of pictures of ``image_size``: a tensor (N, 3, h, w) uint8. Raises: ValueError for others."""


class Reader(BaseReader):
    """With a recognizer; with a teacher beside it, a reader of pictures of any size.

    Args:
        recognizer: moved to the device, in evaluation mode from here on.
        device: None: a GPU where there is one.
        batch_size, max_pixels: as ``BaseReader`` takes them.
        teacher: of a student: it reads the pictures that have more than ``LARGE_ROWS`` rows.

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
        *,
        teacher: Recognizer | None = None,
    ) -> None:
        super().__init__(recognizer.image_size, batch_size, max_pixels)
        self.device = _device(device)
        self.recognizer = recognizer.to(self.device).eval()
        self.teacher = teacher.to(self.device).eval() if teacher is not None else None
        present = [module for module in (self.recognizer, self.teacher) if module is not None]
        self._readers = {module.image_size: LogitsReader(module, self.device) for module in present}

    def _size_for(self, picture: Image.Image) -> tuple[int, int]:
        return self.teacher.image_size if self.teacher and picture.height > LARGE_ROWS else self.image_size

    def read_pixels(self, pixels: Tensor) -> list[Prediction]:
        """The words of pictures of the recognizer's or its teacher's size: (N, 3, h, w) uint8 on any device.

        Raises: ValueError for others.
        """
        if pixels.dtype != torch.uint8 or tuple(pixels.shape[1:]) not in {(3, *size) for size in self._readers}:
            expected = " or ".join(f"(N, {(3, *size)})" for size in self._readers)
            raise ValueError(f"pixels are {pixels.dtype} {tuple(pixels.shape)}, expected uint8 {expected}")
        read = self._readers[pixels.shape[2], pixels.shape[3]]
        words: list[Prediction] = []
        for batch in pixels.split(self.batch_size) if len(pixels) else ():
            logits = read(batch).cpu()
            words += decode_with_confidence(logits, read.recognizer.charset, read.recognizer.temperature)
        return words


@overload
def load_student(
    path: str | Path = ..., device: torch.device | str | None = ..., batch_size: int = ..., *,
    max_pixels: int = ..., cache_folder: str | Path = ..., teacher: bool = ..., detect: Literal[False] = ...,
) -> Reader: ...  # fmt: skip
@overload
def load_student(
    path: str | Path = ..., device: torch.device | str | None = ..., batch_size: int = ..., *,
    max_pixels: int = ..., cache_folder: str | Path = ..., teacher: bool = ..., detect: Literal[True],
) -> PictureReader: ...  # fmt: skip
def load_student(
    path: str | Path = DEFAULT_STUDENT,
    device: torch.device | str | None = None,
    batch_size: int = 64,
    *,
    max_pixels: int = MAX_PIXELS,
    cache_folder: str | Path = _CACHE_FOLDER,
    teacher: bool = True,
    detect: bool = False,
) -> Reader | PictureReader:
    """A reader of images of any size; of a run that made a teacher, the teacher reads them.

    Args:
        path: the name of a pretrained model (``kdltr models`` lists them); a run's folder, the student's folder in it,
            or ``student.safetensors``; a URI of one of them.
        device, batch_size, max_pixels: as ``Reader`` takes them.
        cache_folder: where a student that a URI names is kept.
        teacher: pictures with pixels enough are read by the teacher that the student's config.yaml names, where its
            file is at hand.
        detect: a ``PictureReader``, which finds the words of whole pictures first.

    Raises: ValueError if there is no student or device; as ``fetch``, and as ``PictureReader``.

    Example:
        >>> reader = load_student("parseq_tiny")
        >>> [(word.text, word.confidence) for word in reader(["plate.png", "sign.png"])]
    """
    if detect:
        from kdltr_core.inference.pictures import PictureReader

        more: dict[str, Any] = {"max_pixels": max_pixels, "cache_folder": cache_folder, "teacher": teacher}
        return PictureReader(load_student(path, device, batch_size, **more))
    file = find_recognizer(fetch_recognizer(path, cache_folder))
    recognizer = load_recognizer(file)
    beside = None
    if teacher and recognizer.image_size != HIGH_RES_SIZE:
        from kdltr_core.train.build import teacher_of_student  # here: training itself reads with this package

        with suppress(ValueError):
            beside = teacher_of_student(file, cache_folder)
    return Reader(recognizer, device, batch_size, max_pixels, teacher=beside)


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
