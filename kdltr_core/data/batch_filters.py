"""Filters of whole batches as products with matrices, one for the rows and one for the columns of each picture."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor


def whole(values: Tensor) -> Tensor:
    """Rounded to grey levels, halves upwards as OpenCV rounds sums of whole numbers."""
    return (values + 0.5).floor().clamp(0, 255)


@cache
def constant(values: tuple[float, ...] | tuple[tuple[float, ...], ...], device: torch.device) -> Tensor:
    """Kept, as copying it to a GPU would be waited for."""
    return torch.tensor(values, device=device)


def separable(images: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """(N, 3, H, W) by matrices (N, H', H) and (N, W', W), or for each channel of its own, to (N, 3, H', W')."""
    rows, columns = (matrix if matrix.ndim == 4 else matrix.unsqueeze(-3) for matrix in (rows, columns))
    return rows @ images @ columns.transpose(-1, -2)


def matrices_of(filters: list[Callable[[np.ndarray], np.ndarray]], size: int) -> Tensor:
    """(filters, size', size): what each filter of OpenCV, which is linear, makes of a column of pixels."""
    units = np.eye(size, dtype=np.float32)
    # A column is repeated, as some filters halve the width.
    columns = [[change(np.repeat(unit[:, None], 8, axis=1))[:, 0] for unit in units] for change in filters]
    return torch.from_numpy(np.stack([np.stack(responses, axis=1) for responses in columns]))


def sampling(places: Tensor, weight: Callable[[Tensor], Tensor], reach: int, sizes: Tensor, size: int) -> Tensor:
    """Matrices that take values between pixels; beyond the border its pixel goes on.

    Args:
        places: (N, K) where each output lies among the inputs, 0 in the middle of the first.
        weight: of an input by its distance (N, K, inputs).
        reach: how many inputs to either side have one.
        sizes: (N, 1) how many inputs there are.
        size: of the matrices.

    Returns: (N, K, size) float32, each row's sum 1.
    """
    # What is beyond the last row and column of pixels counts for them, and before the first likewise.
    inputs = torch.arange(-reach, size + reach, device=places.device)
    places = torch.minimum(places.clamp(min=-reach), sizes - 1 + reach)[..., None]
    weights, last = weight(inputs - places), sizes[..., None] - 1
    before, behind = ((weights * outside).sum(-1, keepdim=True) for outside in (inputs < 0, inputs > last))
    matrix = weights * (inputs <= last) + behind * (inputs == last) + before * (inputs == 0)
    matrix = matrix[..., reach : size + reach]
    return matrix / matrix.sum(-1, keepdim=True)


def linear(distance: Tensor) -> Tensor:
    return (1 - distance.abs()).clamp(min=0)


def cubic(distance: Tensor) -> Tensor:
    """With OpenCV's −0.75."""
    x = distance.abs()
    near, far = (1.25 * x - 2.25) * x * x + 1, ((-0.75 * x + 3.75) * x - 6) * x + 3
    return torch.where(x < 1, near, torch.where(x < 2, far, torch.zeros_like(x)))


def convolved(images: Tensor, kernels: Tensor, border: str) -> Tensor:
    """(N, 3, H, W) by a kernel (N, 2 · reach + 1, 2 · reach + 1) for each picture."""
    n, channels, *_ = images.shape
    padded = F.pad(images, (kernels.shape[-1] // 2,) * 4, border).flatten(0, 1)[None]
    weights = kernels[:, None].repeat_interleave(channels, 0)
    return F.conv2d(padded, weights, groups=n * channels).unflatten(1, (n, channels))[0]


def patches(images: Tensor, reach: int, border: str) -> Tensor:
    """(N, 3, H, W, (2 · reach + 1)²), row by row."""
    side = 2 * reach + 1
    return F.pad(images, (reach,) * 4, border).unfold(2, side, 1).unfold(3, side, 1).flatten(-2)


def in_parts(change: Callable[..., Tensor], size: int, *given: Tensor) -> Tensor:
    """``change`` of so many rows of the tensors at a time, where it needs much memory for each."""
    return torch.cat([change(*part) for part in zip(*(tensor.split(size) for tensor in given), strict=True)])


def gaussian(sigma: float, reach: int, border: int) -> Callable[[np.ndarray], np.ndarray]:
    taps = cv2.getGaussianKernel(2 * reach + 1, sigma, cv2.CV_32F)
    return lambda pixels: cv2.sepFilter2D(pixels, -1, np.ones(1, np.float32), taps, borderType=border)
