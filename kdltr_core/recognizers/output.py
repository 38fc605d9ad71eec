"""What every recognizer returns: the contract the losses rely on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from torch import Tensor


@dataclass(frozen=True)
class RecognizerOutput:
    """One forward pass of a recognizer.

    P is the number of permutations (1 for families without permutations), T the number of steps, D the width of the
    semantic vectors, C the number of visual channels, L the number of visual positions.

    Attributes:
        logits: (P, N, T, classes) in training, (N, T, classes) when reading.
        visual: (N, C, L), the features that visual focus compares.
        semantic: (P, N, T, D) in training, (N, T, D) when reading; None where a reading does not produce it.
        attention: (N, T, L), each step a distribution over positions; None for families without one.
        heads: logits (iterations, N, T, classes) of every classifier that supervised training teaches, by name, in
            training; empty for families with a single one.
    """

    logits: Tensor
    visual: Tensor
    semantic: Tensor | None = None
    attention: Tensor | None = None
    heads: Mapping[str, Tensor] = field(default_factory=dict)
