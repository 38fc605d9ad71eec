"""From logits to text, and how sure a recognizer is of it."""

from __future__ import annotations

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
    """

    text: str
    confidence: float
    character_confidences: tuple[float, ...]


def decode_predictions(logits: Tensor, charset: Charset) -> list[str]:
    """The most likely class of every step, up to the first end. logits: (N, T, classes)."""
    return [charset.decode(row) for row in logits.argmax(-1).tolist()]


def decode_with_confidence(logits: Tensor, charset: Charset) -> list[Prediction]:
    """As ``decode_predictions``, with the probabilities of what was read. logits: (N, T, classes)."""
    probabilities, classes = logits.float().softmax(-1).max(-1)
    words = []
    for ids, certainties in zip(classes.tolist(), probabilities.tolist(), strict=True):
        text = charset.decode(ids)
        confidence = 1.0
        for certainty in certainties[: len(text) + 1]:
            confidence *= certainty
        words.append(Prediction(text, confidence, tuple(certainties[: len(text)])))
    return words
