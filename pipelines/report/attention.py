"""Where a recognizer looks while it reads each character, for the families that have such maps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from kdltr_core.data.images import as_float
from kdltr_core.recognizers import Recognizer
from kdltr_core.recognizers.decoding import decode_predictions

MAP_SHAPE = (8, 32)
_GLOW = np.array([255.0, 96.0, 0.0])


@dataclass(frozen=True)
class AttendedWord:
    """One word as it was read, and for each of its characters the picture (H, W, 3) uint8 with what was looked at."""

    text: str
    steps: tuple[np.ndarray, ...]


@torch.inference_mode()
def attend(module: Recognizer, images: Tensor) -> list[AttendedWord]:
    """The words of images (N, 3, H, W) uint8 of the recognizer's size; none if it has no attention maps.

    The maps are (N, T, 256) over 8 × 32 positions. Where the map is highest the picture glows; it is darkened
    elsewhere.
    """
    device = next((p.device for p in module.parameters()), torch.device("cpu"))
    output = module.eval()(as_float(images.to(device)))
    if output.attention is None:
        return []
    maps = output.attention.float().cpu().numpy()
    words = []
    for text, pixels, of_word in zip(
        decode_predictions(output.logits, module.charset), images.numpy(), maps, strict=True
    ):
        picture = pixels.transpose(1, 2, 0)
        words.append(AttendedWord(text, tuple(glow(picture, step) for step in of_word[: len(text)])))
    return words


def glow(picture: np.ndarray, attention: Sequence[float] | np.ndarray) -> np.ndarray:
    """picture (H, W, 3) uint8 and attention (256,), not negative, to (H, W, 3) uint8."""
    height, width, _ = picture.shape
    grid = np.asarray(attention, np.float32).reshape(MAP_SHAPE)
    grid = grid / max(float(grid.max()), 1e-12)
    heat = np.asarray(Image.fromarray(grid).resize((width, height), Image.Resampling.BILINEAR))[:, :, None]
    lit = picture * (0.35 + 0.4 * heat) + _GLOW * 0.55 * heat
    return np.clip(lit, 0, 255).astype(np.uint8)
