"""From encoded images to words, as one replica of a reading service does it."""

from __future__ import annotations

import asyncio
import io
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from PIL import Image

from kdltr_core.inference.reader import BaseReader, Prediction, UnreadableImage
from pipelines.service.app import ImageAnswer

# Images that are unpacked at a time, which with the limit of their pixels bounds a replica's memory.
NUM_UNPACKED = 2

Pixels = np.ndarray
"""(h, w, 3) uint8, as the recognizer takes them"""


class ImageReader:
    """Unpacks and shrinks images in threads of its own, and has the pixels read.

    Args:
        read_pixels: one picture to its word; how several become a batch is its own affair.
    """

    def __init__(self, reader: BaseReader, read_pixels: Callable[[Pixels], Awaitable[Prediction]]) -> None:
        self._reader, self._read_pixels = reader, read_pixels
        self._threads = ThreadPoolExecutor(NUM_UNPACKED, thread_name_prefix="unpack")

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) of what the recognizer sees."""
        height, width, _ = self._reader.pixels(Image.new("RGB", (1, 1))).shape
        return height, width

    async def read(self, images: Sequence[bytes], with_seen: bool) -> list[ImageAnswer]:
        return list(await asyncio.gather(*(self._read_one(image, with_seen) for image in images)))

    async def _read_one(self, data: bytes, with_seen: bool) -> ImageAnswer:
        loop = asyncio.get_running_loop()
        try:
            pixels, seen = await loop.run_in_executor(self._threads, self._unpack, data, with_seen)
        except UnreadableImage as error:
            return ImageAnswer(fault=f"this cannot be read as an image: {error.reason}")
        return ImageAnswer(await self._read_pixels(pixels), seen)

    def _unpack(self, data: bytes, with_seen: bool) -> tuple[Pixels, bytes]:
        pixels = self._reader.pixels(data)
        return pixels, _png(pixels) if with_seen else b""


def read_batch(reader: BaseReader, batch: Sequence[Pixels]) -> list[Prediction]:
    return reader.read_pixels(torch.from_numpy(np.stack(batch)).permute(0, 3, 1, 2))


def _png(pixels: Pixels) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()
