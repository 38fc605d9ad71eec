"""Whether an exported graph reads what the recognizer reads, and what it costs where it does not quite."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from kdltr_core.charset import Charset, Protocol
from kdltr_core.config import HIGH_RES_SIZE
from kdltr_core.data.images import as_float
from kdltr_core.data.pack import Pack
from kdltr_core.metrics import is_correct, mcnemar
from kdltr_core.recognizers import Recognizer
from kdltr_core.recognizers.decoding import Prediction, decode_with_confidence
from pipelines.exporting.program import Read

TOLERANCE = 1e-3
_BATCH = 16
Progress = Callable[[int, int], None]


class ReadsOtherwise(ValueError):
    """An exported graph that is not the recognizer."""


@dataclass(frozen=True)
class Words:
    """Pictures (N, 3, h, w) uint8 of the recognizer's size, and their labels."""

    pixels: np.ndarray
    labels: Sequence[str]


def gather_words(packs: Mapping[str, Pack], num_words: int, image_size: tuple[int, int]) -> Words:
    """About ``num_words`` words, evenly spaced over all sets: of each its share, and one at least."""
    total, pixels, labels = sum(map(len, packs.values())), [], []
    for pack in packs.values():
        share = min(len(pack), max(1, round(num_words * len(pack) / total)))
        rows = np.linspace(0, len(pack) - 1, share).astype(np.int64)
        high_res, low_res = pack.gather(rows)
        pixels.append((high_res if image_size == HIGH_RES_SIZE else low_res).numpy())
        labels += [pack.labels[row] for row in rows]
    return Words(np.concatenate(pixels), labels)


def check_reading(read: Read, recognizer: Recognizer, pixels: np.ndarray, name: str, progress: Progress) -> float:
    """Every picture read by both; by the recognizer alone, by the graph among others.

    Returns: the largest difference of a probability, of a character or of a whole reading; at most ``TOLERANCE``.
    Raises: ReadsOtherwise.
    """
    largest, otherwise = 0.0, []
    for start in range(0, len(pixels), _BATCH):
        batch = pixels[start : start + _BATCH]
        for picture, ids, shares in zip(batch, *read(batch), strict=True):
            word = _read_alone(recognizer, picture)
            text = recognizer.charset.decode(ids.tolist())
            if text != word.text:
                otherwise.append((text, word.text))
            else:
                theirs = np.array([word.confidence, *word.character_confidences])
                ours = np.array([shares.astype(np.float64).prod(), *shares[: len(text)]])
                largest = max(largest, float(np.abs(ours - theirs).max()))
        progress(start + len(batch), len(pixels))
    if otherwise or not largest <= TOLERANCE:
        examples = ", ".join(f"{text!r} for {expected!r}" for text, expected in otherwise[:3])
        faults = f"{len(otherwise)} of {len(pixels)} words ({examples})" if otherwise else "no word"
        raise ReadsOtherwise(
            f"{name} was not kept: it reads {faults} otherwise than PyTorch, and probabilities differ by up to "
            f"{largest:.2g} where {TOLERANCE:g} is allowed"
        )
    return largest


@torch.inference_mode()
def _read_alone(recognizer: Recognizer, picture: np.ndarray) -> Prediction:
    logits = recognizer(as_float(torch.from_numpy(picture[None]))).logits
    return decode_with_confidence(logits, recognizer.charset)[0]


@dataclass(frozen=True)
class Cost:
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


def compare_readings(
    first: Read, second: Read, words: Words, charset: Charset, protocol: Protocol, progress: Progress
) -> Cost:
    """What the second reader costs beside the first."""
    texts: list[list[str]] = [[], []]
    for start in range(0, len(words.pixels), _BATCH):
        batch = words.pixels[start : start + _BATCH]
        for read, mine in zip((first, second), texts, strict=True):
            mine += [charset.decode(ids) for ids in read(batch)[0].tolist()]
        progress(start + len(batch), len(words.pixels))
    right = [[is_correct(t, label, protocol) for t, label in zip(mine, words.labels, strict=True)] for mine in texts]
    different = sum(a != b for a, b in zip(*texts, strict=True))
    return Cost(len(words.labels), sum(right[0]), sum(right[1]), different, mcnemar(*right).p)
