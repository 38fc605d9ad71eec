"""Exported ONNX files as columns of the benchmark table: what int8 costs, beside the run that was exported."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, cast

import torch

from kdltr_core.config import HIGH_RES_SIZE
from kdltr_core.data.images import as_float, enlarge
from kdltr_core.evaluation.benchmarks import BenchmarkReader
from kdltr_core.evaluation.table import Column, Role
from kdltr_core.inference.batched import WordBatch
from kdltr_core.recognizers.decoding import Prediction
from pipelines.prediction.open_reader import open_reader

if TYPE_CHECKING:
    from pipelines.prediction.onnx_reader import OnnxReader


def open_onnx_columns(
    places: Sequence[str], batch_size: int, num_threads: int, cache_folder: str | Path
) -> list[BenchmarkReader]:
    """What ``export.py`` wrote, called as the file is; by its whole path where another has that name.

    Args:
        places: paths or URIs.
        batch_size, num_threads, cache_folder: as ``open_reader`` takes them.

    Raises: ValueError for a file given twice; as ``open_reader``.
    """
    opened = [open_reader(p, "", batch_size, num_threads=num_threads, cache_folder=cache_folder) for p in places]
    readers = {reader.path.resolve(): reader for reader in cast("list[OnnxReader]", opened)}
    if len(readers) < len(places):
        raise ValueError(f"one of {', '.join(places)} is given twice; name each exported file once")
    names = [file.name for file in readers]
    return [
        column
        for file, reader in readers.items()
        for column in onnx_columns(reader, file.name if names.count(file.name) == 1 else str(file))
    ]


def onnx_columns(reader: OnnxReader, name: str) -> list[BenchmarkReader]:
    """A student in one column, a teacher in two. What is enlarged is rounded, as a graph takes eight bits."""
    is_teacher = reader.image_size == HIGH_RES_SIZE
    roles: tuple[Role, ...] = ("teacher_high_res", "teacher_enlarged") if is_teacher else ("student_low_res",)
    made = (reader.notes["recognizer"], f"ONNX, {reader.notes['weights']}", reader.path.stem)
    columns = [Column(role, name) for role in roles]
    return [BenchmarkReader(column, partial(_read, reader, column.image), *made) for column in columns]


def _read(reader: OnnxReader, image: str, batch: WordBatch) -> list[Prediction]:
    if image == "enlarged":
        pixels = (255 * enlarge(as_float(batch.low_res))).round().clamp(0, 255).to(torch.uint8)
    else:
        pixels = batch.high_res if image == "high_res" else batch.low_res
    return reader.read_pixels(pixels)
