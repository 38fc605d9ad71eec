"""Candidates of speed_of_reading.py: crops of any size in, texts out, pre-processing included."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from kdltr_core.inference.detector import open_rapidocr
from kdltr_core.inference.reader import BaseReader, Reader
from kdltr_core.recognizers import Recognizer
from pipelines.prediction.onnx_reader import OnnxReader

CandidateName = Literal["rapidocr", "pytorch", "onnx", "int8"]
TITLES: dict[CandidateName, str] = {
    "rapidocr": "RapidOCR's recognizer",
    "pytorch": "student, PyTorch",
    "onnx": "student, ONNX",
    "int8": "student, ONNX int8",
}
Read = Callable[[Sequence[np.ndarray]], list[str]]


def open_candidate(
    name: CandidateName, recognizer: Recognizer, graphs: dict[str, Path], num_threads: int, batch_size: int
) -> Read:
    """A function from (H, W, 3) uint8 RGB crops to their texts.

    Args:
        graphs: the ONNX files "onnx" and "int8".
        num_threads: of each call.
        batch_size: crops that PyTorch is given at a time; the others divide a call as they do by default.

    Raises: ValueError if RapidOCR is not installed.
    """
    if name == "rapidocr":
        return _rapidocr(num_threads)
    if name == "pytorch":
        reader: BaseReader = Reader(recognizer, "cpu", batch_size)
    else:
        reader = OnnxReader(graphs[name], num_threads=num_threads)
    return lambda crops: [word.text for word in reader(list(crops))]


def _rapidocr(num_threads: int) -> Read:
    """With ONNX Runtime's memory arena, which RapidOCR leaves off: its recognizer is faster so."""
    engine = open_rapidocr(num_threads, {"EngineConfig.onnxruntime.enable_cpu_mem_arena": True})

    def read(crops: Sequence[np.ndarray]) -> list[str]:
        # It expects the order of OpenCV: blue, green, red.
        found: Any = engine.recognize_txt([np.ascontiguousarray(crop[:, :, ::-1]) for crop in crops])
        return list(found.txts)

    return read
