"""JPEG's losses for whole batches: what is left of pictures that were compressed and opened again."""

from __future__ import annotations

from functools import cache

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from kdltr_core.data.batch_filters import constant, linear, sampling, whole
from kdltr_core.data.camera import LUMA

# ITU-T T.81, annex K, for luma and chroma.
_OF_LUMA = """16 11 10 16 24 40 51 61 12 12 14 19 26 58 60 55 14 13 16 24 40 57 69 56 14 17 22 29 51 87 80 62
18 22 37 56 68 109 103 77 24 35 55 64 81 104 113 92 49 64 78 87 103 121 120 101 72 92 95 98 112 100 103 99"""
_OF_CHROMA = """17 18 24 47 99 99 99 99 18 21 26 66 99 99 99 99 24 26 56 99 99 99 99 99 47 66 99 99 99 99 99 99"""
_TO_YCC = (LUMA, (-0.168735892, -0.331264108, 0.5), (0.5, -0.418687589, -0.081312411))
_TO_RGB = ((1.0, 0.0, 1.402), (1.0, -0.344136286, -0.714136286), (1.0, 1.772, 0.0))
_MIDDLE = (0.0, 128.0, 128.0)


def compress_batch(images: Tensor, quality: Tensor) -> Tensor:
    """Colour at half the size and each block of 8 × 8 quantised, as libjpeg does by default.

    Args:
        images: (N, 3, H, W) float32, whole numbers; H and W multiples of 16.
        quality: (N,) from 1 to 100.

    Returns: as the images.
    """
    to_ycc, to_rgb, middle = (constant(values, images.device) for values in (_TO_YCC, _TO_RGB, _MIDDLE))
    ycc = whole(torch.einsum("dc,nchw->ndhw", to_ycc, images) + middle.view(3, 1, 1)) - 128
    scale = torch.where(quality < 50, 5000.0 / quality, 200.0 - 2 * quality).view(-1, 1, 1, 1)
    tables = ((_tables(images.device) * scale + 50) / 100).floor().clamp(1, 255)
    luma = _quantised(ycc[:, :1], tables[:, :1])
    chroma = _quantised(F.avg_pool2d(ycc[:, 1:], 2).round(), tables[:, 1:])
    doubles = [_doubling(size, images.device) for size in chroma.shape[2:]]
    chroma = (doubles[0] @ chroma @ doubles[1].T).round()
    return whole(torch.einsum("cd,ndhw->nchw", to_rgb, torch.cat([luma, chroma], dim=1)) + 128)


def _quantised(planes: Tensor, tables: Tensor) -> Tensor:
    """(N, C, H, W) in [-128, 127] by tables (N, 1, 8, 8)."""
    cosines, tables = _cosines(planes.device), tables[:, :, None, None]
    blocks = planes.unfold(2, 8, 8).unfold(3, 8, 8)
    levels = (cosines @ blocks @ cosines.T / tables).round() * tables
    blocks = (cosines.T @ levels @ cosines).round().clamp(-128, 127)
    return blocks.transpose(3, 4).reshape(planes.shape)


@cache
def _tables(device: torch.device) -> Tensor:
    """(2, 8, 8)."""
    chroma = np.pad(np.array(_OF_CHROMA.split(), float), (0, 32), constant_values=99)
    both = np.stack([np.array(_OF_LUMA.split(), float), chroma])
    return torch.tensor(both, dtype=torch.float32, device=device).view(2, 8, 8)


@cache
def _cosines(device: torch.device) -> Tensor:
    """The orthonormal cosine transform of 8 values: (8, 8)."""
    waves, places = torch.arange(8.0)[:, None], torch.arange(8.0)
    matrix = torch.cos(torch.pi / 8 * (places + 0.5) * waves) / 2
    matrix[0] /= 2**0.5
    return matrix.to(device)


@cache
def _doubling(size: int, device: torch.device) -> Tensor:
    """(2 · size, size)."""
    places = (torch.arange(2 * size) + 0.5) / 2 - 0.5
    return sampling(places[None], linear, 1, torch.tensor([[size]]), size)[0].to(device)
