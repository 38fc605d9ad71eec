"""A student's graph as an ONNX file that says all that whoever reads with it needs."""

from __future__ import annotations

import copy
import hashlib
import json
import logging
import warnings
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from kdltr_core.inference.graph import GRAPH_FORMAT, PredictionGraph
from kdltr_core.recognizers import Recognizer
from kdltr_core.recognizers.layers import SelfAttention
from kdltr_core.recognizers.weights import read_metadata

# The first with an operator for attention; ONNX Runtime 1.23 and newer have it.
OPSET = 23


def describe_export(student: Path, recognizer: Recognizer) -> dict[str, str]:
    """Names and texts for a file's metadata.

    Args:
        student: the weights that the recognizer was loaded from.
    """
    height, width = recognizer.image_size
    return {
        "format": GRAPH_FORMAT,
        "recognizer": read_metadata(student)["recognizer"],
        "weights": "float32",
        "source_sha256": hashlib.sha256(student.read_bytes()).hexdigest(),
        "image_size": json.dumps(recognizer.image_size),
        "charset": recognizer.charset.name,
        "temperature": str(recognizer.temperature),
        "characters": recognizer.charset.characters,
        "pixels": f"uint8 (N, 3, {height}, {width}): RGB; the picture of one word, resized bicubically to this size "
        "whatever its aspect",
        "classes": "int64 (N, 26): class i is characters[i - 1], 0 is the end of the word",
        "probabilities": "float32 (N, 26): of each class, given the picture and the other characters, the temperature "
        "applied; 1 behind the end",
        "confidence": "product of a row of probabilities: of the whole word, its end included, in [0, 1]",
    }


def write_onnx(path: Path, graph: PredictionGraph, image_size: tuple[int, int], notes: Mapping[str, str]) -> None:
    """The graph with a dynamic number of pictures, its weights inside, ``notes`` as metadata."""
    import onnx

    graph = copy.deepcopy(graph)
    for module in list(graph.modules()):
        for name, child in module.named_children():
            if isinstance(child, SelfAttention):
                setattr(module, name, _OnnxAttention(child))
    # A batch of one would be taken for a batch that is always one.
    pixels = torch.zeros(2, 3, *image_size, dtype=torch.uint8)
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        traced = torch.export.export(graph, (pixels,), dynamic_shapes=({0: torch.export.Dim("num_pictures", min=1)},))
        program = torch.onnx.export(
            traced,
            (pixels,),
            input_names=["pixels"],
            output_names=["classes", "probabilities"],
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
