"""From logits to text, and how sure a recognizer is of it."""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import Tensor

from kdltr_core.charset import Charset


@dataclass(frozen=True)
class Prediction:
    """A word as it was read.

    Attributes:
        text: up to the end class.
        confidence: probability of the whole prediction, in [0, 1]: the product over its characters and its end.
        character_confidences: probability of each character of ``text``, in [0, 1].
        uncalibrated: confidence at temperature 1, where a temperature was applied.
    """

    text: str
    confidence: float
    character_confidences: tuple[float, ...]
    uncalibrated: float | None = None


def decode_predictions(logits: Tensor, charset: Charset) -> list[str]:
    """The most likely class of every step, up to the first end. logits: (N, T, classes)."""
    return [charset.decode(row) for row in logits.argmax(-1).tolist()]


def decode_with_confidence(logits: Tensor, charset: Charset, temperature: float = 1.0) -> list[Prediction]:
    """As ``decode_predictions``, with the probabilities of what was read.

    Args:
        logits: (N, T, classes).
        temperature: that the logits are divided by (Guo et al. 2017, eq. 9); it changes no text.
    """
    classes = logits.argmax(-1).tolist()
    scaled = _largest(logits, temperature)
    plain = scaled if temperature == 1 else _largest(logits, 1.0)
    words = []
    for ids, certainties, before in zip(classes, scaled, plain, strict=True):
        text = charset.decode(ids)
        end = len(text) + 1
        uncalibrated = None if temperature == 1 else math.prod(before[:end])
        words.append(Prediction(text, math.prod(certainties[:end]), tuple(certainties[: len(text)]), uncalibrated))
    return words


def _largest(logits: Tensor, temperature: float) -> list[list[float]]:
    return (logits.float() / temperature).softmax(-1).amax(-1).tolist()
