"""A student by its name: a run, its weights, or an exported ONNX file."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from kdltr_core.config import DataConfig
from kdltr_core.data.images import MAX_PIXELS
from kdltr_core.inference.reader import Reader, load_student
from kdltr_core.remote import fetch

if TYPE_CHECKING:
    from pipelines.prediction.onnx_reader import OnnxReader
    from pipelines.prediction.options import PredictOptions

_CACHE_FOLDER = DataConfig().cache_folder


def is_onnx(student: str | Path) -> bool:
    """Whether it is to be opened as an exported file, by its name."""
    return str(student).endswith(".onnx")


def open_reader(
    student: str | Path,
    device: str = "",
    batch_size: int = 64,
    *,
    num_threads: int = 0,
    max_pixels: int = MAX_PIXELS,
    cache_folder: str | Path = _CACHE_FOLDER,
    teacher: bool = True,
) -> Reader | OnnxReader:
    """A reader of images.

    Args:
        student: as ``load_student`` takes it, or an ONNX file that export.py wrote; a path or a URI.
        device: "": a GPU where there is one; an ONNX file is read on the CPU.
        batch_size, max_pixels: as ``BaseReader`` takes them; an ONNX file is given no more than it reads fastest.
        num_threads: for one call of an ONNX file; 0: as many as there are cores.
        cache_folder: where what a URI names is kept.
        teacher: as ``load_student`` takes it; an ONNX file stands alone.

    Raises: ValueError as ``load_student``, or if an ONNX file is none, not there, or cannot be read so; as ``fetch``.
    """
    if not is_onnx(student):
        return load_student(
            student,
            device or None,
            batch_size,
            max_pixels=max_pixels,
            cache_folder=cache_folder,
            teacher=teacher,
        )
    if device not in ("", "cpu"):
        raise ValueError(f"{student} is read on the CPU and not on {device}; give the run that it was exported from")
    if find_spec("onnxruntime") is None:
        raise ValueError(f"reading with {student} needs onnxruntime: pip install 'kdltr[export]'")
    from pipelines.prediction.onnx_reader import FASTEST_BATCH, OnnxReader

    file = fetch(str(student), cache_folder)
    if not file.is_file():
        raise ValueError(f"there is no file {student}; pipelines/export.py writes one of a run")
    return OnnxReader(file, min(batch_size, FASTEST_BATCH), num_threads, max_pixels)


def open_reader_for(options: PredictOptions, device: str, num_threads: int = 0) -> Reader | OnnxReader:
    """As ``open_reader``, what predict.py was told to read with."""
    return open_reader(
        options.student,
        device,
        options.batch_size,
        num_threads=num_threads,
        max_pixels=options.max_pixels,
        cache_folder=options.cache_folder,
        teacher=options.teacher,
    )
