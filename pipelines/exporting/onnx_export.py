"""A student as an ONNX file that says all that a reader needs; onnx is imported here and in onnx_int8.py only."""

from __future__ import annotations

import copy
import logging
import warnings
from collections.abc import Mapping
from pathlib import Path

import onnx
import torch
from torch import Tensor, nn

from kdltr_core.inference.graph import ExportedReading
from kdltr_core.recognizers.layers import SelfAttention
from pipelines.exporting.program import example_pixels, trace

# The first with an operator for attention; ONNX Runtime 1.23 and newer have it.
OPSET = 23
INPUT, OUTPUTS = "pixels", ("classes", "probabilities")


def write_onnx(path: Path, reading: ExportedReading, image_size: tuple[int, int], notes: Mapping[str, str]) -> None:
    """The graph with a dynamic number of pictures, its weights inside, ``notes`` as metadata."""
    reading = copy.deepcopy(reading)
    for module in list(reading.modules()):
        for name, child in module.named_children():
            if isinstance(child, SelfAttention):
                setattr(module, name, _OnnxAttention(child))
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            trace(reading, image_size),
            (example_pixels(image_size),),
            input_names=[INPUT],
            output_names=list(OUTPUTS),
            dynamo=True,
            opset_version=OPSET,
            verbose=False,
        )
    assert program is not None
    model = program.model_proto
    onnx.helper.set_model_props(model, dict(notes))
    onnx.save(model, path)


class _OnnxAttention(nn.Module):
    """``SelfAttention`` as ONNX has it: the operator divides the heads itself, so nothing is moved around it."""

    def __init__(self, attention: SelfAttention) -> None:
        super().__init__()
        self.num_heads, self.proj = attention.num_heads, attention.proj
        self.parts = nn.ModuleList()
        for weight, bias in zip(attention.qkv.weight.chunk(3), attention.qkv.bias.chunk(3), strict=True):
            part = nn.Linear(weight.shape[1], weight.shape[0])
            part.weight, part.bias = nn.Parameter(weight.detach().clone()), nn.Parameter(bias.detach().clone())
            self.parts.append(part)

    def forward(self, x: Tensor) -> Tensor:
        """(N, L, D) to (N, L, D)."""
        queries, keys, values = (part(x) for part in self.parts)
        heads = self.num_heads
        return self.proj(torch.onnx.ops.attention(queries, keys, values, q_num_heads=heads, kv_num_heads=heads)[0])
