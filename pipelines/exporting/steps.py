"""What export.py does with a student: write a graph, hold it against PyTorch, take its products to integers."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from kdltr_core.charset import Charset, Protocol
from kdltr_core.config import HIGH_RES_SIZE
from kdltr_core.data.images import as_float
from kdltr_core.data.pack import Pack
from kdltr_core.data.roots import open_benchmarks
from kdltr_core.inference.graph import PredictionGraph
from kdltr_core.metrics import is_correct, mcnemar
from kdltr_core.recognizers import Recognizer
from kdltr_core.recognizers.decoding import Prediction, decode_with_confidence
from pipelines.exporting.onnx_export import Predict, describe_export, open_program, write_onnx, write_program
from pipelines.exporting.options import ExportOptions
from pipelines.run.progress import clock, progress_bar, say

TOLERANCE = 1e-3
_BATCH = 16
Progress = Callable[[int, int], None]


class PredictsOtherwise(ValueError):
    """An exported graph that is not the recognizer."""


@dataclass(frozen=True)
class LabelledPixels:
    """Pictures (N, 3, h, w) uint8 of the recognizer's size, and their labels."""

    pixels: np.ndarray
    labels: Sequence[str]


@dataclass(frozen=True)
class Int8Cost:
    """Two graphs on the same words: how many each reads right, and how many they read differently."""

    num_words: int
    first_correct: int
    second_correct: int
    num_different: int
    p: float

    @property
    def lost(self) -> float:
        """Percentage points of word accuracy that the second has less than the first."""
        return 100 * (self.first_correct - self.second_correct) / self.num_words

    def describe(self) -> str:
        first, second = (100 * n / self.num_words for n in (self.first_correct, self.second_correct))
        return (
            f"word accuracy {second:.2f} % instead of {first:.2f} % on {self.num_words} words "
            f"(McNemar p = {self.p:.2g}); {self.num_different} words are read differently"
        )


def write_checked(
    file: Path, options: ExportOptions, student: Path, recognizer: Recognizer, packs: Mapping[str, Pack]
) -> dict[str, str]:
    """The graph in float32, read back and compared. Returns: what was found. Raises: PredictsOtherwise."""
    say(f"writing the graph of {student}: some ten seconds")
    notes, graph = describe_export(student, recognizer), PredictionGraph(recognizer)
    with clock("writing the graph"):
        if options.format == "torch":
            write_program(file, graph, recognizer.image_size, notes)
            predict, _ = open_program(file)
        else:
            write_onnx(file, graph, recognizer.image_size, notes)
            predict = _open_onnx(file)
    words = gather_words(packs, options.num_checked, recognizer.image_size)
    largest = check_predictions(predict, recognizer, words.pixels, file.name, progress_bar("checking"))
    same = f"{len(words.labels)} words of {', '.join(packs)} are read exactly as by PyTorch"
    say(f"{same}; probabilities differ by {largest:.1g} at most")
    return {"checked_words": str(len(words.labels)), "largest_difference": f"{largest:.2g}"}


def quantise(file: Path, options: ExportOptions, recognizer: Recognizer, packs: Mapping[str, Pack]) -> dict[str, str]:
    """The file with products in integers. Returns: what it costs. Raises: PredictsOtherwise if that is too much."""
    from pipelines.exporting.onnx_int8 import write_int8

    rendered = open_benchmarks(options.rendered(), progress=progress_bar("rendering words"))
    seen = gather_words(rendered, options.rendered().num_rendered_benchmark, recognizer.image_size)
    words = gather_words(packs, options.num_words, recognizer.image_size)
    smaller = file.with_suffix(".int8.onnx")
    write_int8(smaller, file, seen.pixels)
    graphs = _open_onnx(file), _open_onnx(smaller)
    cost = compare_predictions(*graphs, words, recognizer.charset, options.protocol, progress_bar("comparing"))
    if cost.lost > options.max_loss:
        raise PredictsOtherwise(
            f"{file.name} was not kept: int8 gives {cost.describe()}, and at most {options.max_loss:g} points may be "
            "lost; give --max-loss, or leave --quantise out"
        )
    say(f"int8: {cost.describe()}; {file.stat().st_size / smaller.stat().st_size:.1f} times smaller")
    os.replace(smaller, file)
    return {"int8_cost": cost.describe()}


def gather_words(packs: Mapping[str, Pack], num_words: int, image_size: tuple[int, int]) -> LabelledPixels:
    """About ``num_words`` words, evenly spaced over all sets: of each in proportion to its size, and one at least."""
    total, pixels, labels = sum(map(len, packs.values())), [], []
    for pack in packs.values():
        num = min(len(pack), max(1, round(num_words * len(pack) / total)))
        rows = np.linspace(0, len(pack) - 1, num).astype(np.int64)
        high_res, low_res = pack.gather(rows)
        pixels.append((high_res if image_size == HIGH_RES_SIZE else low_res).numpy())
        labels += [pack.labels[row] for row in rows]
    return LabelledPixels(np.concatenate(pixels), labels)


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


def compare_predictions(
    first: Predict, second: Predict, words: LabelledPixels, charset: Charset, protocol: Protocol, progress: Progress
) -> Int8Cost:
    """What the second graph costs beside the first."""
    texts: list[list[str]] = [[], []]
    for start in range(0, len(words.pixels), _BATCH):
        batch = words.pixels[start : start + _BATCH]
        for predict, mine in zip((first, second), texts, strict=True):
            mine += [charset.decode(ids) for ids in predict(batch)[0].tolist()]
        progress(start + len(batch), len(words.pixels))
    right = [[is_correct(t, label, protocol) for t, label in zip(mine, words.labels, strict=True)] for mine in texts]
    different = sum(a != b for a, b in zip(*texts, strict=True))
    return Int8Cost(len(words.labels), sum(right[0]), sum(right[1]), different, mcnemar(*right).p)


@torch.inference_mode()
def _predict_alone(recognizer: Recognizer, picture: np.ndarray) -> Prediction:
    logits = recognizer(as_float(torch.from_numpy(picture[None]))).logits
    return decode_with_confidence(logits, recognizer.charset, recognizer.temperature)[0]


def _open_onnx(file: Path) -> Predict:
    from pipelines.prediction.onnx_reader import OnnxReader

    return OnnxReader(file).run
