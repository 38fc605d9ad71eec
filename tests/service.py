"""A reading service for tests: a student that reads large print, words to send, and a service in this process."""

from __future__ import annotations

import io
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from matplotlib import get_data_path
from PIL import Image, ImageDraw, ImageFont

from kdltr_core.config import RunConfig
from kdltr_core.inference.graph import PredictionGraph
from kdltr_core.inference.reader import Prediction
from kdltr_core.inference.weights_files import export_recognizer, find_recognizer, load_recognizer
from kdltr_core.recognizers import build_student
from kdltr_core.recognizers.weights import start_from_teacher
from kdltr_core.train.build import load_teacher
from pipelines.exporting.onnx_export import describe_export, write_onnx
from pipelines.serve import open_port
from pipelines.service.app import Server, build_app
from pipelines.service.options import ServeOptions, ServiceLimits

SECONDS_TO_END = 20


def make_student(folder: Path) -> Path:
    """A student before its first step, with the bundled teacher's weights: it reads clean print as it is."""
    config = RunConfig()
    teacher = load_teacher(config, torch.device("cpu"))
    student = build_student("parseq_tiny")
    start_from_teacher(student, teacher, "teacher")
    export_recognizer(folder / "student", student, student.state_dict(), config)
    return folder


def write_graph(run: Path, file: Path) -> Path:
    """The ONNX file of what a run made."""
    recognizer = load_recognizer(run)
    notes = describe_export(find_recognizer(run), recognizer)
    write_onnx(file, PredictionGraph(recognizer), recognizer.image_size, notes)
    return file


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


@contextmanager
def local_service(
    student: Path, limits: ServiceLimits | None = None, token: str = "", *, teacher: bool = True, detect: bool = False
) -> Iterator[str]:
    """The app and the server of a service before a replica without Ray, whose batches have one image; its address."""
    from pipelines.service.replicas import WordReplica  # Ray takes seconds, which other tests need not wait for

    class LocalReplica(WordReplica):
        async def _read_batch(self, pixels: np.ndarray) -> Prediction:
            return self._reader.read_pixels(torch.from_numpy(pixels[None]).permute(0, 3, 1, 2))[0]

        _read_batch.set_max_batch_size = lambda value: None

    options = ServeOptions(str(student), teacher=teacher, detect=detect, limits=limits or ServiceLimits())
    listening = open_port("127.0.0.1", 0)
    server = Server(build_app(LocalReplica(str(student), options), options.limits, token, detects=detect), "reading")
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
    thread.start()
    try:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(SECONDS_TO_END)
