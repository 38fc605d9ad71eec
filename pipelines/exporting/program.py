"""A student as a torch.export program, and that program in a file."""

from __future__ import annotations

import io
import json
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from kdltr_core.inference.graph import ExportedReading

NOTES = "notes.json"
Read = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]


def example_pixels(image_size: tuple[int, int]) -> Tensor:
    """Two pictures: a batch of one would be taken for a batch that is always one."""
    return torch.zeros(2, 3, *image_size, dtype=torch.uint8)


def trace(reading: ExportedReading, image_size: tuple[int, int]) -> torch.export.ExportedProgram:
    """The graph for any number of pictures from one on."""
    shapes = ({0: torch.export.Dim("num_pictures", min=1)},)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.export.export(reading, (example_pixels(image_size),), dynamic_shapes=shapes)


def write_program(path: Path, reading: ExportedReading, image_size: tuple[int, int], notes: Mapping[str, str]) -> None:
    """``torch.export.save``, the notes as the extra file ``notes.json``."""
    torch.export.save(trace(reading, image_size), path, extra_files={NOTES: json.dumps(dict(notes))})


def open_program(path: str | Path) -> tuple[Read, dict[str, str]]:
    """A function from pixels (N, 3, h, w) uint8 to classes and probabilities (N, 26), and the notes."""
    extra = {NOTES: ""}
    # A path that does not end in .pt2, as while it is being written, is warned of.
    module = torch.export.load(io.BytesIO(Path(path).read_bytes()), extra_files=extra).module()

    @torch.inference_mode()
    def read(pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        classes, probabilities = module(torch.from_numpy(pixels))
        return classes.numpy(), probabilities.numpy()

    return read, json.loads(extra[NOTES])
