"""Corruptions of low_res, each at several severities: blur, noise, compression, motion, and fewer pixels."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np
import torch
from PIL import Image
from torch import Tensor

from kdltr_core.charset import Protocol
from kdltr_core.config import HIGH_RES_SIZE, LOW_RES_SIZE
from kdltr_core.data.degrade import gaussian_blur, gaussian_noise
from kdltr_core.data.images import NativeImages, resize
from kdltr_core.evaluation.table import is_judged
from kdltr_core.inference.batched import KeyedPairs

Corruption = Literal["gaussian_blur", "gaussian_noise", "jpeg_quality", "motion_blur", "resolution"]

NATIVE = 0.0
SEVERITIES: dict[Corruption, tuple[float, ...]] = {
    "gaussian_blur": (0.0, 0.5, 1.0, 1.5, 2.0, 2.5),
    "gaussian_noise": (0.0, 5.0, 10.0, 15.0, 20.0),
    "jpeg_quality": (100.0, 80.0, 60.0, 40.0, 20.0, 10.0),
    "motion_blur": (1.0, 3.0, 5.0, 7.0, 9.0),
    "resolution": (8.0, 12.0, 16.0, 24.0, NATIVE),
}


def corrupt(image: np.ndarray, corruption: Corruption, severity: float, seed: int) -> np.ndarray:
    """One image at one severity of any corruption but resolution.

    Args:
        image: (H, W, 3) uint8, RGB.
        severity: σ in pixels of Gaussian blur, σ in grey levels of noise, JPEG quality, or pixels of motion.
        seed: of the noise, and of the direction of the motion.

    Returns: (H, W, 3) uint8.
    """
    if corruption == "gaussian_blur":
        return gaussian_blur(image, severity)
    if corruption == "gaussian_noise":
        return gaussian_noise(image, severity, seed)
    if corruption == "jpeg_quality":
        return jpeg(image, int(severity))
    if corruption == "motion_blur":
        return motion_blur(image, int(severity), np.random.default_rng(seed).uniform(0.0, 180.0))
    raise ValueError(f"{corruption!r} is no corruption of a picture by itself; resolution takes its source")


def jpeg(image: np.ndarray, quality: int) -> np.ndarray:
    """Compressed and decoded, with colour at half the resolution (4:2:0), as cameras and web sites do."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "JPEG", quality=quality, subsampling="4:2:0")
    return np.asarray(Image.open(buffer).convert("RGB"))


def motion_blur(image: np.ndarray, length: int, angle: float) -> np.ndarray:
    """The mean along a straight line of ``length`` pixels (odd), ``angle`` degrees from the horizontal."""
    if length < 1 or length % 2 == 0:
        raise ValueError(f"the motion's length is {length}, expected an odd number of pixels")
    kernel: np.ndarray = np.zeros((length, length), np.float32)
    kernel[length // 2] = 1.0
    centre = (length // 2, length // 2)
    kernel = cv2.warpAffine(kernel, cv2.getRotationMatrix2D(centre, angle, 1.0), (length, length))
    return cv2.filter2D(image, -1, kernel / kernel.sum(), borderType=cv2.BORDER_REFLECT_101)


def at_height(image: np.ndarray, height: float) -> np.ndarray:
    """Bicubic to ``height`` rows and four times as many columns; ``NATIVE`` leaves it as it is."""
    if height == NATIVE:
        return image
    return resize(Image.fromarray(image), (int(height), 4 * int(height)))


@dataclass(frozen=True)
class SampledPairs:
    """Some rows of a set, as a set; ``rows`` (N,)."""

    pairs: KeyedPairs
    rows: np.ndarray

    @property
    def name(self) -> str:
        return self.pairs.name

    @property
    def labels(self) -> list[str]:
        return [self.pairs.labels[row] for row in self.rows]

    @property
    def keys(self) -> list[str]:
        return [self.pairs.keys[row] for row in self.rows]

    def __len__(self) -> int:
        return len(self.rows)

    def gather(self, indices: np.ndarray) -> tuple[Tensor, Tensor]:
        """As ``Pack.gather``."""
        return self.pairs.gather(self.rows[indices])


def sample_words(
    packs: Mapping[str, KeyedPairs], num_words: int, seed: int = 0, protocol: Protocol = "36"
) -> dict[str, SampledPairs]:
    """``num_words`` of all judged words, each as likely as any other, in their order; all if there are no more.

    Sets without a word among them are left out.
    """
    judged = {n: np.flatnonzero([is_judged(label, protocol) for label in pack.labels]) for n, pack in packs.items()}
    total = sum(map(len, judged.values()))
    chosen = np.zeros(total, bool)
    chosen[np.random.default_rng(seed).permutation(total)[:num_words]] = True
    ends = np.cumsum([len(rows) for rows in judged.values()])[:-1]
    parts = zip(judged.items(), np.split(chosen, ends), strict=True)
    return {name: SampledPairs(packs[name], rows[of_set]) for (name, rows), of_set in parts if of_set.any()}


@dataclass(frozen=True)
class CorruptedPairs:
    """A set whose low_res is corrupted when it is gathered; what is random in it follows the row.

    ``resolution`` is another: both images are made anew, of the source brought to the severity's height.
    """

    pairs: KeyedPairs
    corruption: Corruption
    severity: float
    set_name: str = ""
    native: NativeImages | None = None

    @property
    def name(self) -> str:
        return self.pairs.name

    @property
    def labels(self) -> list[str]:
        return self.pairs.labels

    @property
    def keys(self) -> list[str]:
        return self.pairs.keys

    def __len__(self) -> int:
        return len(self.pairs)

    def sources(self, indices: np.ndarray) -> list[np.ndarray]:
        """Of ``resolution``: the images (H, W, 3) at the severity's height, before they are fitted to a reader."""
        assert self.native is not None
        keys = self.keys
        return [at_height(self.native.pixels(self.set_name, keys[row]), self.severity) for row in indices]

    def gather(self, indices: np.ndarray) -> tuple[Tensor, Tensor]:
        """As ``Pack.gather``."""
        if self.corruption == "resolution":
            images = [Image.fromarray(image) for image in self.sources(indices)]
            both = [_planes([resize(image, size) for image in images]) for size in (HIGH_RES_SIZE, LOW_RES_SIZE)]
            return both[0], both[1]
        high_res, low_res = self.pairs.gather(indices)
        pixels = low_res.numpy().transpose(0, 2, 3, 1)
        corrupted = [
            corrupt(np.ascontiguousarray(image), self.corruption, self.severity, int(row))
            for image, row in zip(pixels, indices, strict=True)
        ]
        return high_res, _planes(corrupted)


def _planes(images: list[np.ndarray]) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(np.stack(images).transpose(0, 3, 1, 2)))
