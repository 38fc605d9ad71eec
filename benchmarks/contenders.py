"""Who reads the same crops in speed_of_reading.py: pictures of any size in, texts out, pre-processing included."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from kdltr_core.data.images import open_image, resize
from kdltr_core.inference.graph import PredictionGraph
from kdltr_core.inference.reader import BaseReader, Reader
from kdltr_core.recognizers import Recognizer
from pipelines.prediction.onnx_reader import OnnxReader

ContenderName = Literal["eager", "compiled", "onnx", "int8", "rapidocr"]
TITLES: dict[ContenderName, str] = {
    "rapidocr": "RapidOCR's recognizer",
    "eager": "student, PyTorch eager",
    "compiled": "student, torch.compile",
    "onnx": "student, ONNX",
    "int8": "student, ONNX int8",
}
Read = Callable[[Sequence[np.ndarray]], list[str]]


def open_contender(
    name: ContenderName, recognizer: Recognizer, graphs: dict[str, Path], num_threads: int, batch_size: int
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
    if name == "compiled":
        return _compiled(recognizer)
    if name == "eager":
        reader: BaseReader = Reader(recognizer, "cpu", batch_size)
    else:
        reader = OnnxReader(graphs[name], num_threads=num_threads)
    return lambda crops: [word.text for word in reader(list(crops))]


def _compiled(recognizer: Recognizer) -> Read:
    """``PredictionGraph``, whose loop is compiled as well; the recognizer's own is left to Python at every step."""
    graph: Callable[[Tensor], tuple[Tensor, Tensor]] = torch.compile(PredictionGraph(recognizer), dynamic=False)

    @torch.inference_mode()
    def read(crops: Sequence[np.ndarray]) -> list[str]:
        pixels = np.stack([resize(open_image(crop), recognizer.image_size) for crop in crops])
        classes, _ = graph(torch.from_numpy(np.ascontiguousarray(pixels.transpose(0, 3, 1, 2))))
        return [recognizer.charset.decode(ids) for ids in classes.tolist()]

    return read


def _rapidocr(num_threads: int) -> Read:
    """With ONNX Runtime's memory arena, which RapidOCR leaves off: its recognizer is faster so."""
    if importlib.util.find_spec("rapidocr") is None:
        raise ValueError("the comparison needs RapidOCR: pip install 'kdltr[detect]', or leave rapidocr out")
    from rapidocr import RapidOCR

    prefix = "EngineConfig.onnxruntime"
    threads = {f"{prefix}.{kind}_op_num_threads": num_threads for kind in ("intra", "inter")}
    engine = RapidOCR(params={"Global.log_level": "error", f"{prefix}.enable_cpu_mem_arena": True, **threads})

    def read(crops: Sequence[np.ndarray]) -> list[str]:
        # It expects the order of OpenCV: blue, green, red.
        found: Any = engine.recognize_txt([np.ascontiguousarray(crop[:, :, ::-1]) for crop in crops])
        return list(found.txts)

    return read
