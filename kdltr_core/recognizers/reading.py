"""From logits to text."""

from __future__ import annotations

from torch import Tensor

from kdltr_core.charset import Charset


def decode_readings(logits: Tensor, charset: Charset) -> list[str]:
    """The most likely class of every step, up to the first end. logits: (N, T, classes)."""
    return [charset.decode(row) for row in logits.argmax(-1).tolist()]
