"""A student's graph as a file, of ONNX or of torch.export, that says all that whoever reads with it needs."""

from __future__ import annotations

import copy
import hashlib
import io
import json
import logging
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from kdltr_core.inference.graph import GRAPH_FORMAT, PredictionGraph
from kdltr_core.recognizers import Recognizer
from kdltr_core.recognizers.layers import SelfAttention
from kdltr_core.recognizers.weights import read_metadata

# The first with an operator for attention; ONNX Runtime 1.23 and newer have it.
OPSET = 23
NOTES = "notes.json"
Predict = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]
"""Pixels (N, 3, h, w) uint8 to classes (N, 26) and probabilities (N, 26)"""


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
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            _trace(graph, image_size),
            (_example_pixels(image_size),),
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


def write_program(path: Path, graph: PredictionGraph, image_size: tuple[int, int], notes: Mapping[str, str]) -> None:
    """``torch.export.save``, the notes as the extra file ``notes.json``."""
    torch.export.save(_trace(graph, image_size), path, extra_files={NOTES: json.dumps(dict(notes))})


def open_program(path: str | Path) -> tuple[Predict, dict[str, str]]:
    """What a program predicts, and its notes."""
    extra = {NOTES: ""}
    # A path that does not end in .pt2, as while it is being written, is warned of.
    module = torch.export.load(io.BytesIO(Path(path).read_bytes()), extra_files=extra).module()

    @torch.inference_mode()
    def predict(pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        classes, probabilities = module(torch.from_numpy(pixels))
        return classes.numpy(), probabilities.numpy()

    return predict, json.loads(extra[NOTES])


def _example_pixels(image_size: tuple[int, int]) -> Tensor:
    """Two pictures: a batch of one would be taken for a batch that is always one."""
    return torch.zeros(2, 3, *image_size, dtype=torch.uint8)


def _trace(graph: PredictionGraph, image_size: tuple[int, int]) -> torch.export.ExportedProgram:
    """The graph for any number of pictures from one on."""
    shapes = ({0: torch.export.Dim("num_pictures", min=1)},)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.export.export(graph, (_example_pixels(image_size),), dynamic_shapes=shapes)


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
