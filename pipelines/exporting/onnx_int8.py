"""An exported ONNX file with eight-bit products: ONNX Runtime's static quantisation, weights symmetric by column.

The activations' ranges are fixed, measured on words beforehand, and not taken from each batch: what is read in a
picture must not depend on the others beside it. Weights have seven bits: a processor without VNNI adds two products of
eight bits each in sixteen, and overflows. Products in a loop stay as they are: they are of one character at a time,
where rounding costs more time than it saves.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

_BATCH = 32


class _Words(CalibrationDataReader):
    def __init__(self, pixels: np.ndarray) -> None:
        self._batches: Iterator[np.ndarray] = iter(pixels[i : i + _BATCH] for i in range(0, len(pixels), _BATCH))

    def get_next(self) -> dict[str, np.ndarray] | None:  # type: ignore[override]
        batch = next(self._batches, None)
        return None if batch is None else {"pixels": batch}


def write_int8(path: Path, source: Path, pixels: np.ndarray) -> None:
    """The same graph and metadata with its products of weights in integers.

    Args:
        source: what ``write_onnx`` wrote.
        pixels: (N, 3, h, w) uint8, words by which the ranges of the activations are measured.
    """
    logging.disable(logging.WARNING)  # it recommends what the exporter has done already
    quantize_static(
        source,
        path,
        _Words(pixels),
        quant_format=QuantFormat.QOperator,
        op_types_to_quantize=["MatMul"],
        per_channel=True,
        reduce_range=True,
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
        extra_options={"MatMulConstBOnly": True},
    )
    logging.disable(logging.NOTSET)
    model = onnx.load(path)
    next(note for note in model.metadata_props if note.key == "weights").value = "int8"
    onnx.save(model, path)
