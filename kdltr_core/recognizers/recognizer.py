"""A recognizer of any family: what it returns, and what distiller, engine and commands ask of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar

from torch import Tensor, nn

from kdltr_core.charset import Charset
from kdltr_core.data.images import enlarge


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


class Recognizer(nn.Module):
    """Images of words in, distributions over characters out.

    Attributes:
        image_size: (height, width) in pixels of the images it reads.
        enlarges: whether it enlarges them itself, to the size that its layers are built for.
        charset: its alphabet.
        semantic_width: D of its semantic vectors.
        visual_shape: (C, L) of its visual features.
        uses_permutations: whether the training forward reads every word in several orders.
        fixed_num_steps: T of the training forward where it is always the same; None: as the targets have it.
        num_iterations: how often a prediction is corrected; 0 where there is no language part to do it.
        temperature: that its logits are divided by before they are taken for probabilities, when it reads.
        teacher_only: beginnings of the keys that a teacher's state dict has and its student's has not.
    """

    image_size: tuple[int, int]
    enlarges: bool = False
    charset: Charset
    semantic_width: int
    visual_shape: tuple[int, int]
    fixed_num_steps: int | None = None
    num_iterations: int = 0
    temperature: float = 1.0
    uses_permutations: ClassVar[bool] = False
    teacher_only: ClassVar[tuple[str, ...]] = ()

    def forward(self, images: Tensor) -> RecognizerOutput:
        """Read: images (N, 3, H, W) float in [0, 1] to logits (N, T, classes)."""
        raise NotImplementedError

    def encode(self, images: Tensor) -> dict[str, Tensor]:
        """What of the training forward follows from the images alone: names to tensors (N, …).

        With ``decode`` it gives what ``forward_training`` gives, heads apart; a teacher's can be cached.
        """
        raise NotImplementedError

    def decode(self, encoded: Mapping[str, Tensor], targets: Tensor, permutations: Tensor) -> RecognizerOutput:
        """The rest of the training forward; arguments as for the other two."""
        raise NotImplementedError

    def forward_training(self, images: Tensor, targets: Tensor, permutations: Tensor) -> RecognizerOutput:
        """What the losses compare, with a leading dimension P.

        Args:
            images: (N, 3, H, W) float in [0, 1].
            targets: (N, T + 1) class ids: begin, characters, end, pad.
            permutations: (P, T + 1); families without permutations ignore them.
        """
        raise NotImplementedError

    def _as_seen(self, images: Tensor) -> Tensor:
        """The images in the size that the layers are built for. Raises: ValueError for another than ``image_size``."""
        if tuple(images.shape[-2:]) != self.image_size:
            raise ValueError(f"images are {tuple(images.shape[-2:])} pixels, this recognizer reads {self.image_size}")
        return enlarge(images) if self.enlarges else images


class ParallelRecognizer(Recognizer):
    """A recognizer that reads all steps at once (ABINet, MATRN): neither targets nor permutations are asked for."""

    def encode(self, images: Tensor) -> dict[str, Tensor]:
        output = self(images)
        parts = {name: getattr(output, name) for name in ("logits", "visual", "semantic", "attention")}
        assert all(part is not None for part in parts.values())
        return parts

    def decode(self, encoded: Mapping[str, Tensor], targets: Tensor, permutations: Tensor) -> RecognizerOutput:
        return RecognizerOutput(
            encoded["logits"][None], encoded["visual"], encoded["semantic"][None], encoded["attention"]
        )
