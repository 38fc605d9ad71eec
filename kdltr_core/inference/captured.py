"""Reading with a recognizer, on a GPU as CUDA graphs."""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from kdltr_core.capture import Given, Graphs
from kdltr_core.data.images import as_float, enlarge
from kdltr_core.device import autocast
from kdltr_core.recognizers import Recognizer
from kdltr_core.recognizers.parseq import STEPS_BETWEEN_QUESTIONS, Parseq, PartialReading

_FEWEST = 8


class LogitsReader:
    """Pictures to logits, by a recognizer in the mode it is in.

    On a GPU batches are filled up to powers of two, and each number of pictures is captured after a few batches of it:
    ABINet and MATRN whole; of PARSeq the encoder, every four steps of the decoder, after which it is asked whether all
    words have ended, and the refinement of so many characters. Threads may share it.

    Args:
        recognizer: on the device; its weights may change in their places.
        precision: as for ``device.autocast``.
        enlarges: whether it is shown the pictures enlarged.
    """

    def __init__(
        self, recognizer: Recognizer, device: torch.device, precision: str = "float32", enlarges: bool = False
    ) -> None:
        self.recognizer, self.device, self.precision, self.enlarges = recognizer, device, precision, enlarges
        self.graphs, self._lock = Graphs(device), threading.Lock()
        self._readings: dict[int, Callable[[Given], Tensor]] = {}

    @torch.inference_mode()
    def __call__(self, pixels: Tensor) -> Tensor:
        """(N, 3, h, w) uint8, on any device, to (N, T, classes) on the recognizer's."""
        pixels = pixels.to(self.device)
        if self.graphs.recorder is None:
            with autocast(self.device, self.precision):
                return self.recognizer(self._images(pixels)).logits
        size = max(_FEWEST, 1 << (len(pixels) - 1).bit_length())
        with self._lock:
            if size not in self._readings:
                whole = self.in_precision(lambda images: self.recognizer(images).logits)
                by_characters = isinstance(self.recognizer, Parseq)
                self._readings[size] = _Characters(self) if by_characters else self.graphs.capture(whole)
            # With the same pictures again, which end when they do.
            filled = pixels.repeat(-(-size // len(pixels)), 1, 1, 1)[:size]
            return self._readings[size]({"pixels": filled})[: len(pixels)].clone()

    def _images(self, pixels: Tensor) -> Tensor:
        images = as_float(pixels)
        return enlarge(images) if self.enlarges else images

    def in_precision(self, function: Callable[[Any], Any]) -> Callable[[Given], Any]:
        """The function of what is given as pixels, if anything, under autocast."""

        def computed(given: Given) -> Any:
            with autocast(self.device, self.precision):
                return function(self._images(given["pixels"]) if given else None)

        return computed


class _Characters:
    """Of PARSeq. After ``progress[k]`` comes ``progress[k + 1]``, each written in its place whenever it is replayed."""

    def __init__(self, reader: LogitsReader) -> None:
        assert isinstance(reader.recognizer, Parseq)
        self.parseq = reader.recognizer
        num_parts = -(-self.parseq.num_steps // STEPS_BETWEEN_QUESTIONS)
        self.progress: list[PartialReading | None] = [None] * (num_parts + 1)

        def capture(function: Callable[[Any], Any]) -> Callable[[Given], Any]:
            return reader.graphs.capture(reader.in_precision(function))

        self.begin = capture(self._begin)
        self.parts = [capture(partial(self._read_on, part)) for part in range(num_parts)]
        self.ends = [capture(partial(self._finish, part)) for part in range(num_parts)]

    def __call__(self, given: Given) -> Tensor:
        self.begin(given)
        part = 0
        while not bool(self.parts[part]({})) and part + 1 < len(self.parts):
            part += 1
        return self.ends[part]({})

    def _begin(self, images: Tensor) -> None:
        self.progress[0] = self.parseq.begin_reading(images)

    def _read_on(self, part: int, _: None) -> Tensor:
        before = self.progress[part]
        assert before is not None
        after = self.progress[part + 1] = self.parseq.read_on(before, STEPS_BETWEEN_QUESTIONS)
        return after.ended.all()

    def _finish(self, part: int, _: None) -> Tensor:
        reading = self.progress[part + 1]
        assert reading is not None
        return self.parseq.finish_reading(reading).logits
