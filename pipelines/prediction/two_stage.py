"""What one would do without a student: enlarge the picture, then read it with a general recognizer (RapidOCR's)."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from typing import Any, Literal, get_args

import numpy as np
from PIL import Image

from kdltr_core.data.images import NativeImages
from kdltr_core.evaluation.benchmarks import BenchmarkReader
from kdltr_core.evaluation.corruptions import CorruptedPairs
from kdltr_core.evaluation.table import Column
from kdltr_core.inference.batched import WordBatch
from kdltr_core.recognizers.decoding import Prediction

Enlargement = Literal["bicubic", "lanczos"]

# Rows of the pictures that PP-OCR's recognizer takes.
_HEIGHT = 48
_RESAMPLING = {"bicubic": Image.Resampling.BICUBIC, "lanczos": Image.Resampling.LANCZOS}


class RapidReader:
    """RapidOCR's recognizer, PP-OCRv6 small by default, on the CPU; its models come inside its package.

    Args:
        num_threads: of ONNX Runtime.

    Raises: ValueError if the package is not installed.
    """

    def __init__(self, num_threads: int) -> None:
        if importlib.util.find_spec("rapidocr") is None:
            raise ValueError("the two-stage baseline needs RapidOCR: pip install 'kdltr[detect]'")
        from rapidocr import RapidOCR

        threads = {f"EngineConfig.onnxruntime.{kind}_op_num_threads": num_threads for kind in ("intra", "inter")}
        self._engine = RapidOCR(params={"Global.log_level": "error", **threads})

    def read(self, images: list[np.ndarray]) -> list[Prediction]:
        """images: (H, W, 3) uint8, RGB. The confidence is its own: the mean over the characters."""
        # It expects the order of OpenCV: blue, green, red.
        found: Any = self._engine.recognize_txt([np.ascontiguousarray(image[:, :, ::-1]) for image in images])
        return [Prediction(text, float(score), ()) for text, score in zip(found.txts, found.scores, strict=True)]


def enlarge_word(image: np.ndarray, aspect_ratio: float, enlargement: Enlargement) -> np.ndarray:
    """(H, W, 3) uint8 at 48 rows and the width over height that the word had before it was squeezed."""
    size = (max(1, round(_HEIGHT * aspect_ratio)), _HEIGHT)
    return np.asarray(Image.fromarray(image).resize(size, _RESAMPLING[enlargement]))


class TwoStageReader:
    """Enlarges low_res and reads it, as a reader of benchmark sets.

    Args:
        aspect_ratios: width over height of the native image, by set name, then key.
    """

    def __init__(
        self, recognizer: RapidReader, aspect_ratios: Mapping[str, Mapping[str, float]], enlargement: Enlargement
    ) -> None:
        self._recognizer, self._ratios, self._enlargement = recognizer, aspect_ratios, enlargement

    def __call__(self, batch: WordBatch) -> list[Prediction]:
        pairs, keys = batch.pairs, batch.pairs.keys
        if isinstance(pairs, CorruptedPairs) and pairs.corruption == "resolution":
            images = pairs.sources(batch.indices)
        else:
            images = list(batch.low_res.numpy().transpose(0, 2, 3, 1))
        ratios = [self._ratios[batch.set_name][keys[row]] for row in batch.indices]
        enlarged = [enlarge_word(i, ratio, self._enlargement) for i, ratio in zip(images, ratios, strict=True)]
        return self._recognizer.read(enlarged)


def two_stage_columns(
    choice: Literal["bicubic", "lanczos", "both"], packs: Mapping[str, Any], native: NativeImages, num_threads: int
) -> list[BenchmarkReader]:
    """The baseline's columns, of one recognizer. Raises: ValueError if its package is not installed."""
    ratios: dict[str, dict[str, float]] = {}
    for name, pack in packs.items():
        sizes = native.sizes(name, pack.keys)
        ratios[name] = {key: width / height for key, (height, width) in zip(pack.keys, sizes, strict=True)}
    recognizer = RapidReader(num_threads)
    chosen: tuple[Enlargement, ...] = get_args(Enlargement) if choice == "both" else (choice,)
    return [
        BenchmarkReader(
            Column("two_stage", how), TwoStageReader(recognizer, ratios, how), "PP-OCR", f"{how}, then RapidOCR"
        )
        for how in chosen
    ]
