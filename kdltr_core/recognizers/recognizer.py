"""What distiller, engine and commands ask of a recognizer, whatever its family."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from torch import Tensor, nn

from kdltr_core.charset import Charset
from kdltr_core.recognizers.output import RecognizerOutput


class Recognizer(nn.Module):
    """Images of words in, distributions over characters out.

    Attributes:
        image_size: (height, width) in pixels of the images it reads.
        charset: its alphabet.
        semantic_width: D of its semantic vectors.
        visual_shape: (C, L) of its visual features.
        uses_permutations: whether the training forward reads every word in several orders.
        fixed_num_steps: T of the training forward where it is always the same; None: as the targets have it.
        num_iterations: how often a reading is corrected; 0 where there is no language part to do it.
        teacher_only: beginnings of the keys that a teacher's state dict has and its student's has not.
    """

    image_size: tuple[int, int]
    charset: Charset
    semantic_width: int
    visual_shape: tuple[int, int]
    fixed_num_steps: int | None = None
    num_iterations: int = 0
    uses_permutations: ClassVar[bool] = False
    teacher_only: ClassVar[tuple[str, ...]] = ()

    def forward(self, images: Tensor) -> RecognizerOutput:
        """Read: images (N, 3, H, W) float in [0, 1] to logits (N, T, classes)."""
        raise NotImplementedError

    def encode_lesson(self, images: Tensor) -> dict[str, Tensor]:
        """What of the training forward follows from the images alone: names to tensors (N, …).

        With ``decode_lesson`` it gives what ``forward_training`` gives, heads apart; for a teacher it can be kept.
        """
        raise NotImplementedError

    def decode_lesson(self, lesson: Mapping[str, Tensor], targets: Tensor, permutations: Tensor) -> RecognizerOutput:
        """The rest of the training forward; arguments as for the other two."""
        raise NotImplementedError

    def forward_training(self, images: Tensor, targets: Tensor, permutations: Tensor) -> RecognizerOutput:
        """What the losses look at, with a leading dimension P.

        Args:
            images: (N, 3, H, W) float in [0, 1].
            targets: (N, T + 1) class ids: begin, characters, end, pad.
            permutations: (P, T + 1); families without permutations do not look at them.
        """
        raise NotImplementedError

    def _check_size(self, images: Tensor) -> None:
        if tuple(images.shape[-2:]) != self.image_size:
            raise ValueError(f"images are {tuple(images.shape[-2:])} pixels, this recognizer reads {self.image_size}")
