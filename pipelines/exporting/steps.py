"""What export.py does with a student: write a graph, hold it against PyTorch, take its products to integers."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import torch

from kdltr_core.config import HIGH_RES_SIZE
from kdltr_core.data.images import as_float
from kdltr_core.data.pack import Pack
from kdltr_core.data.roots import open_benchmarks
from kdltr_core.evaluation.benchmarks import read_benchmarks
from kdltr_core.evaluation.table import BenchmarkTable
from kdltr_core.inference.graph import PredictionGraph
from kdltr_core.recognizers import Recognizer
from kdltr_core.recognizers.decoding import Prediction, decode_with_confidence
from pipelines.exporting.onnx_export import describe_export, write_onnx
from pipelines.exporting.onnx_int8 import write_int8
from pipelines.exporting.options import ExportOptions
from pipelines.prediction.onnx_columns import onnx_columns
from pipelines.prediction.onnx_reader import OnnxReader
from pipelines.run.progress import clock, progress_bar, say

# Words on which graph and PyTorch must agree, and by how much their probabilities may differ.
NUM_CHECKED, TOLERANCE = 256, 1e-3
_BATCH = 16
Progress = Callable[[int, int], None]
Predict = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]
"""Pixels (N, 3, h, w) uint8 to classes (N, 26) and probabilities (N, 26)"""


class PredictsOtherwise(ValueError):
    """An exported graph that is not the recognizer."""


def write_checked(file: Path, student: Path, recognizer: Recognizer, packs: Mapping[str, Pack]) -> dict[str, str]:
    """The graph in float32, read back and compared. Returns: what was found. Raises: PredictsOtherwise."""
    say(f"writing the graph of {student}: some ten seconds")
    with clock("writing the graph"):
        write_onnx(file, PredictionGraph(recognizer), recognizer.image_size, describe_export(student, recognizer))
    pixels = gather_pixels(packs, NUM_CHECKED, recognizer.image_size)
    largest = check_predictions(OnnxReader(file).run, recognizer, pixels, file.name, progress_bar("checking"))
    same = f"{len(pixels)} words of {', '.join(packs)} are read exactly as by PyTorch"
    say(f"{same}; probabilities differ by {largest:.1g} at most")
    return {"checked_words": str(len(pixels)), "largest_difference": f"{largest:.2g}"}


def quantise(file: Path, options: ExportOptions, packs: Mapping[str, Pack]) -> dict[str, str]:
    """The file with products in integers. Returns: what it costs. Raises: PredictsOtherwise if that is too much."""
    before, smaller = OnnxReader(file), file.with_suffix(".int8.onnx")
    rendered = open_benchmarks(options.rendered(), progress=progress_bar("rendering words"))
    write_int8(smaller, file, gather_pixels(rendered, sum(map(len, rendered.values())), before.image_size))
    columns = [onnx_columns(reader, name)[0] for reader, name in ((before, "float32"), (OnnxReader(smaller), "int8"))]
    table = read_benchmarks(columns, packs, batch_size=_BATCH, progress=progress_bar("comparing"))
    lost, cost = cost_of_int8(table)
    if lost > options.max_loss:
        raise PredictsOtherwise(
            f"{file.name} was not kept: int8 gives {cost}, and at most {options.max_loss:g} points may be lost; give "
            "--max-loss, or leave --quantise out"
        )
    say(f"int8: {cost}; {file.stat().st_size / smaller.stat().st_size:.1f} times smaller")
    os.replace(smaller, file)
    return {"int8_cost": cost}


def cost_of_int8(table: BenchmarkTable) -> tuple[float, str]:
    """Percentage points of word accuracy that the second of two readers has less than the first, and it in words."""
    before, after = table.columns
    first, second = (100 * table.weighted(column)[0] for column in (before, after))
    different = sum(word.predictions[before].text != word.predictions[after].text for word in table.words)
    return first - second, (
        f"word accuracy {second:.2f} % instead of {first:.2f} % on {table.num_words} words "
        f"(McNemar p = {table.compare(before, after).test.p:.2g}); {different} words are read differently"
    )


def gather_pixels(packs: Mapping[str, Pack], num_words: int, image_size: tuple[int, int]) -> np.ndarray:
    """About ``num_words`` pictures (N, 3, h, w) uint8 of that size, evenly spaced over all sets, one of each at least.

    Of each set in proportion to its size.
    """
    total, pixels = sum(map(len, packs.values())), []
    for pack in packs.values():
        num = min(len(pack), max(1, round(num_words * len(pack) / total)))
        high_res, low_res = pack.gather(np.linspace(0, len(pack) - 1, num).astype(np.int64))
        pixels.append((high_res if image_size == HIGH_RES_SIZE else low_res).numpy())
    return np.concatenate(pixels)


def check_predictions(
    predict: Predict, recognizer: Recognizer, pixels: np.ndarray, name: str, progress: Progress
) -> float:
    """Every picture read by both; by the recognizer alone, by the graph among others.

    Returns: the largest difference of a probability, of a character or of a whole word; at most ``TOLERANCE``.
    Raises: PredictsOtherwise.
    """
    largest, otherwise = 0.0, []
    for start in range(0, len(pixels), _BATCH):
        batch = pixels[start : start + _BATCH]
        for picture, ids, probabilities in zip(batch, *predict(batch), strict=True):
            word = _predict_alone(recognizer, picture)
            text = recognizer.charset.decode(ids.tolist())
            if text != word.text:
                otherwise.append((text, word.text))
            else:
                theirs = np.array([word.confidence, *word.character_confidences])
                ours = np.array([probabilities.astype(np.float64).prod(), *probabilities[: len(text)]])
                largest = max(largest, float(np.abs(ours - theirs).max()))
        progress(start + len(batch), len(pixels))
    if otherwise or not largest <= TOLERANCE:
        examples = ", ".join(f"{text!r} for {expected!r}" for text, expected in otherwise[:3])
        faults = f"{len(otherwise)} of {len(pixels)} words ({examples})" if otherwise else "no word"
        raise PredictsOtherwise(
            f"{name} was not kept: it reads {faults} otherwise than PyTorch, and probabilities differ by up to "
            f"{largest:.2g} where {TOLERANCE:g} is allowed"
        )
    return largest


@torch.inference_mode()
def _predict_alone(recognizer: Recognizer, picture: np.ndarray) -> Prediction:
    logits = recognizer(as_float(torch.from_numpy(picture[None]))).logits
    return decode_with_confidence(logits, recognizer.charset, recognizer.temperature)[0]
