"""A reading service for tests: a student that reads large print, words to send, and a service in this process."""

from __future__ import annotations

import io
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from matplotlib import get_data_path
from PIL import Image, ImageDraw, ImageFont

from kdltr_core.config import RunConfig
from kdltr_core.inference.reader import Prediction, Reader, load_student
from kdltr_core.inference.weights_files import export_recognizer
from kdltr_core.recognizers import build_student
from kdltr_core.recognizers.weights import enlargement, start_from_teacher
from kdltr_core.train.build import load_teacher
from pipelines.service.app import Door
from pipelines.service.limits import ServiceLimits
from pipelines.service.reader import ImageReader, Pixels, read_batch
from pipelines.service.server import open_port, server_of

SECONDS_TO_END = 20


def make_student(folder: Path) -> Path:
    """A student before its first step, with the bundled teacher's weights: it reads clean print as it is."""
    config = RunConfig()
    teacher = load_teacher(config, torch.device("cpu"))
    student = build_student("parseq_tiny")
    start_from_teacher(student, teacher, "teacher", enlargement(student.patch_size, teacher.patch_size, "bicubic"))
    export_recognizer(folder / "student", student, student.state_dict(), config)
    return folder


def word_picture(text: str) -> Image.Image:
    """Dark letters on a light ground, 90 pixels high."""
    font = ImageFont.truetype(str(Path(get_data_path(), "fonts", "ttf", "DejaVuSans-Bold.ttf")), 56)
    picture = Image.new("RGB", (40 + int(font.getlength(text)), 90), "#f0e6d0")
    ImageDraw.Draw(picture).text((20, 12), text, fill="#3a2412", font=font)
    return picture


def encoded(picture: Image.Image, kind: str = "PNG") -> bytes:
    file = io.BytesIO()
    picture.save(file, kind)
    return file.getvalue()


class LocalReaders(ImageReader):
    """Reads in this process, one image at a time."""

    def __init__(self, reader: Reader) -> None:
        async def read_one(pixels: Pixels) -> Prediction:
            return read_batch(reader, [pixels])[0]

        super().__init__(reader, read_one)

    async def about(self) -> dict[str, object]:
        return {"image_size": list(self.size)}


@contextmanager
def local_service(student: Path, limits: ServiceLimits | None = None, token: str = "") -> Iterator[str]:
    """The door and the server of a service before a reader of this process; its address."""
    limits = limits or ServiceLimits()
    readers = LocalReaders(load_student(student, "cpu", max_pixels=limits.pixels))
    listening = open_port("127.0.0.1", 0)
    server = server_of(Door(readers, limits, token).app(), limits)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
    thread.start()
    try:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(SECONDS_TO_END)
