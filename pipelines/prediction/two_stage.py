"""What one would do without a student: enlarge the picture, then read it with a general recognizer (RapidOCR's)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from PIL import Image

from kdltr_core.evaluation.benchmarks import BenchmarkReader
from kdltr_core.evaluation.table import Column
from kdltr_core.inference.batched import WordBatch
from kdltr_core.inference.detector import open_rapidocr
from kdltr_core.recognizers.decoding import Prediction

# Rows of the pictures that PP-OCR's recognizer takes.
_HEIGHT = 48


def two_stage_column(sizes: Mapping[str, Sequence[tuple[int, int]]], num_threads: int) -> BenchmarkReader:
    """RapidOCR's recognizer, PP-OCRv6 small by default, on the CPU; its models come inside its package.

    Its confidence is its own: the mean over the characters.

    Args:
        sizes: (height, width) of the native images, by set name, as its rows.
        num_threads: of ONNX Runtime.

    Raises: ValueError if the package is not installed.
    """
    engine = open_rapidocr(num_threads)

    def read(batch: WordBatch) -> list[Prediction]:
        # It expects the order of OpenCV: blue, green, red.
        images = np.ascontiguousarray(batch.low_res.numpy().transpose(0, 2, 3, 1)[..., ::-1])
        shapes = [sizes[batch.set_name][row] for row in batch.indices]
        enlarged = [enlarge_word(image, width / height) for image, (height, width) in zip(images, shapes, strict=True)]
        found: Any = engine.recognize_txt(enlarged)
        return [Prediction(text, float(score), ()) for text, score in zip(found.txts, found.scores, strict=True)]

    return BenchmarkReader(Column("two_stage"), read, "PP-OCR", "bicubic, then RapidOCR")


def enlarge_word(image: np.ndarray, aspect_ratio: float) -> np.ndarray:
    """(H, W, 3) uint8 at 48 rows and the width over height that the word had before it was squeezed; bicubic."""
    size = (max(1, round(_HEIGHT * aspect_ratio)), _HEIGHT)
    return np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BICUBIC))
