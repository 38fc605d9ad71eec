"""What is read of logits, and how sure of it the reader is."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from kdltr_core.charset import Charset36
from kdltr_core.recognizers.decoding import decode_predictions, decode_with_confidence


def log_probabilities(steps: list[tuple[str, float]]) -> Tensor:
    """Steps (1, T, 37): the named character ("" is the end) has the given share, the others the rest in equal parts."""
    rows = torch.empty(len(steps), Charset36.num_classes)
    for row, (character, share) in zip(rows, steps, strict=True):
        row.fill_((1 - share) / (Charset36.num_classes - 1))
        row[Charset36.encode(character)[0] if character else Charset36.end_id] = share
    return rows.log()[None]


@pytest.mark.parametrize(
    ("steps", "text", "characters", "confidence"),
    [
        ([("o", 0.9), ("k", 0.8), ("", 0.5), ("x", 0.3)], "ok", (0.9, 0.8), 0.9 * 0.8 * 0.5),
        ([("a", 0.5), ("b", 0.4)], "ab", (0.5, 0.4), 0.2),  # without an end
        ([("", 0.7), ("b", 0.4)], "", (), 0.7),
    ],
)
def test_confidence_is_the_product_over_characters_and_end(
    steps: list[tuple[str, float]], text: str, characters: tuple[float, ...], confidence: float
) -> None:
    (word,) = decode_with_confidence(log_probabilities(steps), Charset36)
    assert word.text == text
    assert word.confidence == pytest.approx(confidence)
    assert word.character_confidences == pytest.approx(characters)


def test_a_temperature_divides_the_logits_before_they_are_probabilities() -> None:
    logits = log_probabilities([("o", 0.9), ("", 0.5)])
    (word,) = decode_with_confidence(logits, Charset36, temperature=2.0)

    def share(p: float) -> float:  # softmax of log(p) / 2: square roots, over their sum
        return p**0.5 / (p**0.5 + 36 * ((1 - p) / 36) ** 0.5)

    assert word.character_confidences == pytest.approx((share(0.9),))
    assert word.confidence == pytest.approx(share(0.9) * share(0.5))
    assert word.uncalibrated == pytest.approx(0.9 * 0.5)


def test_the_text_is_that_of_decode_readings() -> None:
    logits = torch.randn(20, 6, Charset36.num_classes, generator=torch.Generator().manual_seed(0))
    assert [word.text for word in decode_with_confidence(logits, Charset36)] == decode_predictions(logits, Charset36)
