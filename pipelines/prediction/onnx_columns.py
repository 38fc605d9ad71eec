"""Exported ONNX files as columns of the benchmark table: what int8 costs, beside the run that was exported."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, cast

import torch

from kdltr_core.config import HIGH_RES_SIZE
from kdltr_core.data.images import as_float, enlarge
from kdltr_core.evaluation.benchmarks import BenchmarkReader
from kdltr_core.evaluation.table import Column, ImageKind, Role
from kdltr_core.inference.batched import BatchReader, WordBatch
from kdltr_core.inference.reader import BaseReader
from kdltr_core.recognizers.decoding import Prediction
from pipelines.prediction.open_reader import open_reader

if TYPE_CHECKING:
    from pipelines.prediction.onnx_reader import OnnxReader


def open_onnx_columns(
    places: Sequence[str], taken: Collection[str], batch_size: int, num_threads: int, cache_folder: str | Path
) -> list[BenchmarkReader]:
    """What ``export.py`` wrote: a student in one column, a teacher in two, called as the file is.

    Args:
        places: paths or URIs.
        taken: names that other columns have.
        batch_size, num_threads, cache_folder: as ``open_reader`` takes them.

    Raises: ValueError for a file given twice; as ``open_reader``.
    """
    opened = [open_reader(p, "", batch_size, num_threads=num_threads, cache_folder=cache_folder) for p in places]
    readers = [cast("OnnxReader", reader) for reader in opened]
    files = [reader.path.resolve() for reader in readers]
    for file in files:
        if files.count(file) > 1:
            raise ValueError(f"{file} is given twice; name each exported file once")
    columns: list[BenchmarkReader] = []
    for name, reader in zip(_short_names(files, taken), readers, strict=True):
        of_teacher = reader.image_size == HIGH_RES_SIZE
        roles: tuple[Role, ...] = ("teacher_high_res", "teacher_enlarged") if of_teacher else ("student_low_res",)
        for role in roles:
            column = Column(role, name)
            read, method = _batch_reader(reader, column.image), f"ONNX, {reader.notes['weights']}"
            columns.append(BenchmarkReader(column, read, reader.notes["recognizer"], method, reader.path.stem))
    return columns


def _batch_reader(reader: BaseReader, image: ImageKind) -> BatchReader:
    """Of a set's own pixels. What is enlarged is rounded, as a graph takes eight bits."""

    def read(batch: WordBatch) -> list[Prediction]:
        pixels = batch.high_res if image == "high_res" else batch.low_res
        if image == "enlarged":
            pixels = (255 * enlarge(as_float(pixels))).round().clamp(0, 255).to(torch.uint8)
        return reader.read_pixels(pixels)

    return read


def _short_names(files: Sequence[Path], taken: Collection[str]) -> list[str]:
    """The files' names, with as many of the folders above them as tell all columns apart."""
    for count in range(1, max((len(file.parts) for file in files), default=0)):
        names = [Path(*file.parts[-count:]).as_posix() for file in files]
        if len({*names, *taken}) == len(names) + len(set(taken)):
            return names
    return [str(file) for file in files]
