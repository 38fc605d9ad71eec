"""A recognizer as one graph from pixels to characters, in operations that torch.export and ONNX know."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from kdltr_core.data.images import as_float
from kdltr_core.inference.exported_parseq import ParseqLogits
from kdltr_core.recognizers import Recognizer
from kdltr_core.recognizers.parseq import Parseq


class ExportedReading(nn.Module):
    """Reads a batch of pictures as the recognizer reads each of them alone.

    Args:
        recognizer: of any family, on the CPU; it is put into evaluation mode and frozen, and its weights are shared.
    """

    def __init__(self, recognizer: Recognizer) -> None:
        super().__init__()
        recognizer.eval().requires_grad_(False)
        self.end_id = recognizer.charset.end_id
        self.logits = ParseqLogits(recognizer) if isinstance(recognizer, Parseq) else _Logits(recognizer)

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """Read.

        Args:
            pixels: (N, 3, h, w) uint8, RGB, of the recognizer's image size.

        Returns: class ids (N, 26) int64 and their probabilities (N, 26) in [0, 1]. Behind a word's end every class is
            the end and every probability 1, so that the product of a row is the confidence of the whole reading.
        """
        logits, num_steps = self.logits(as_float(pixels))
        probabilities, ids = logits.softmax(-1).max(-1)
        is_end = (ids == self.end_id).long()
        position = torch.arange(ids.shape[1], device=ids.device)
        behind = (is_end.cumsum(1) > is_end) | (position >= num_steps[:, None])
        return ids.masked_fill(behind, self.end_id), probabilities.masked_fill(behind, 1.0)


class _Logits(nn.Module):
    """A recognizer that reads all steps at once: logits (N, T, classes), and (N,) how many of them count, all."""

    def __init__(self, recognizer: Recognizer) -> None:
        super().__init__()
        self.recognizer = recognizer

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        logits = self.recognizer(images).logits
        return logits, torch.full_like(logits[:, 0, 0], logits.shape[1], dtype=torch.long)
