"""An exported ONNX file as a reader: a student as ``export.py`` writes it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

from kdltr_core.data.images import MAX_PIXELS
from kdltr_core.inference.graph import GRAPH_FORMAT
from kdltr_core.inference.reader import BaseReader
from kdltr_core.recognizers.decoding import Prediction

# The loop of PARSeq's graph ends with the longest word of a batch, and what a layer hands on no longer fits a core's
# cache where a batch is large.
FASTEST_BATCH = 16


class OnnxReader(BaseReader):
    """With an exported graph, on the CPU.

    Args:
        path: of a file that export.py wrote.
        batch_size: images read at a time.
        num_threads: of ONNX Runtime for one call; 0: as many as there are cores.
        max_pixels: as ``BaseReader`` takes it.

    Attributes:
        path: the file.
        notes: the file's metadata.
        characters: class i stands for ``characters[i - 1]``, 0 for the end.

    Raises: ValueError if it is no such file, or as ``BaseReader``.
    """

    def __init__(
        self, path: str | Path, batch_size: int = FASTEST_BATCH, num_threads: int = 0, max_pixels: int = MAX_PIXELS
    ) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = num_threads
        options.log_severity_level = 3
        try:
            self._session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
            self.notes: dict[str, str] = self._session.get_modelmeta().custom_metadata_map
            if self.notes.get("format") != GRAPH_FORMAT:
                raise ValueError(f"its metadata says format {self.notes.get('format')!r}, expected {GRAPH_FORMAT!r}")
            height, width = json.loads(self.notes["image_size"])
            self.characters = self.notes["characters"]
        except Exception as error:  # those of ONNX Runtime have no class in common but this
            raise ValueError(
                f"{path} is not an ONNX file that export.py wrote, or not whole ({str(error).splitlines()[0]}); write "
                "one of a run with pipelines/export.py"
            ) from error
        super().__init__((height, width), batch_size, max_pixels)
        self.path = Path(path)

    def read_pixels(self, pixels: Any) -> list[Prediction]:
        """The words of pictures of the student's size: (N, 3, h, w) uint8, an array or a tensor. Raises: ValueError."""
        pixels = np.asarray(pixels)
        expected = (3, *self.image_size)
        if pixels.dtype != np.uint8 or pixels.ndim != 4 or pixels.shape[1:] != expected:
            raise ValueError(f"pixels are {pixels.dtype} {pixels.shape}, expected uint8 (N, {expected})")
        words: list[Prediction] = []
        for start in range(0, len(pixels), self.batch_size):
            classes, probabilities = self.run(pixels[start : start + self.batch_size])
            words += [self._word(ids, each) for ids, each in zip(classes, probabilities, strict=True)]
        return words

    def run(self, pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The graph's own answer: classes (N, 26) int64 and probabilities (N, 26) float32."""
        classes, probabilities = self._session.run(["classes", "probabilities"], {"pixels": pixels})
        return np.asarray(classes), np.asarray(probabilities)

    def _word(self, ids: np.ndarray, probabilities: np.ndarray) -> Prediction:
        text = "".join(self.characters[i - 1] for i in ids if i)
        return Prediction(
            text, float(probabilities.astype(np.float64).prod()), tuple(probabilities[: len(text)].tolist())
        )
