"""The published degradation of whole batches, where their pixels lie: as ``degrade`` in distribution, not in bytes."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial

import cv2
import numpy as np
import torch
from torch import Tensor

from kdltr_core.data.batch_draws import Draws, in_own_order, on
from kdltr_core.data.batch_filters import convolved, gaussian, in_parts, matrices_of, patches, separable, whole
from kdltr_core.data.batch_mean_shift import mean_shift
from kdltr_core.data.batch_superpixels import superpixels
from kdltr_core.data.degrade import NOISE_LIMIT, PROBABILITY, gaussian_size, motion_kernel

# A blur's width is one of so many to a pixel; so is the angle of a motion to a degree.
_WIDTHS_A_PIXEL = 100
_BILATERAL_AT_A_TIME = 64


def degrade_batch(images: Tensor, seeds: np.ndarray) -> Tensor:
    """Each of the eight operations with its probability, in an order of its own for each picture.

    Args:
        images: (N, 3, 16, 64) float32, whole numbers in [0, 255], as every operation takes and gives them.
        seeds: (N,) uint64.
    """
    draws, num = Draws(seeds, 1), len(OPERATIONS)
    chosen, order = draws.columns(num) < PROBABILITY, draws.columns(num).argsort(axis=1)
    order = np.where(np.take_along_axis(chosen, order, 1), order, -1)
    first = np.argsort(order < 0, axis=1, kind="stable")
    operations = [
        lambda part, rows, number=number, change=change: change(part, Draws(seeds[rows], 2 + number))
        for number, change in enumerate(OPERATIONS.values())
    ]
    costly = [list(OPERATIONS).index(name) for name in ("mean_shift", "superpixels")]
    return in_own_order(images.clone(), np.take_along_axis(order, first, 1), operations, costly)


def filtered_gaussian(images: Tensor, sigma: np.ndarray) -> Tensor:
    return _by_table(images, _gaussians, np.rint(sigma * _WIDTHS_A_PIXEL).astype(np.int64))


def filtered_average(images: Tensor, size: np.ndarray) -> Tensor:
    return _by_table(images, _averages, size - 1)


def filtered_median(images: Tensor, size: np.ndarray) -> Tensor:
    """By odd sizes (N,)."""
    images = images.clone()
    for side in np.unique(size):
        places = on(images.device, np.flatnonzero(size == side))
        near = patches(images[places], int(side) // 2, "replicate").to(torch.uint8)
        images[places] = near.median(-1).values.float()
    return images


def filtered_bilateral(images: Tensor, size: np.ndarray, of_colour: np.ndarray, of_space: np.ndarray) -> Tensor:
    parameters = (on(images.device, values.astype(np.float32)) for values in (size // 2, of_colour, of_space))
    return in_parts(_bilateral, _BILATERAL_AT_A_TIME, images, *parameters)


def filtered_motion(images: Tensor, towards: np.ndarray, angle: np.ndarray) -> Tensor:
    both = on(images.device, np.stack([1 - towards, towards], axis=1))
    ends = _streaks(images.device)[on(images.device, np.rint(angle).astype(np.int64) % 360)]
    return whole(convolved(images, torch.einsum("ne,neij->nij", both, ends), "reflect"))


def _by_table(images: Tensor, table: Callable[[int, torch.device], Tensor], index: np.ndarray) -> Tensor:
    places = on(images.device, index)
    rows, columns = (table(size, images.device)[places] for size in images.shape[2:])
    return whole(separable(images, rows, columns))


@cache
def _gaussians(size: int, device: torch.device) -> Tensor:
    widths = np.arange(1, 3 * _WIDTHS_A_PIXEL + 1) / _WIDTHS_A_PIXEL
    filters = [gaussian(width, gaussian_size(width) // 2, cv2.BORDER_REFLECT_101) for width in widths]
    return torch.cat([torch.eye(size)[None], matrices_of(filters, size)]).to(device)


@cache
def _averages(size: int, device: torch.device) -> Tensor:
    return matrices_of([partial(cv2.blur, ksize=(1, side)) for side in range(1, 6)], size).to(device)


@cache
def _streaks(device: torch.device) -> Tensor:
    """(360, 2, 3, 3): one end or the other all dark, by whole degrees; a kernel between is their mixture."""
    return torch.from_numpy(
        np.stack([[motion_kernel(towards, angle) for towards in (0.0, 1.0)] for angle in range(360)])
    ).to(device)


def _bilateral(images: Tensor, radius: Tensor, of_colour: Tensor, of_space: Tensor) -> Tensor:
    steps = torch.arange(-4, 5, device=images.device)
    far = (steps[:, None].square() + steps.square()).flatten().float()
    spatial = (-0.5 * far / of_space[:, None].square()).exp() * (far.sqrt() <= radius[:, None])
    near = patches(images, 4, "reflect")
    apart = (near - images[..., None]).abs().sum(1)
    weights = (-0.5 * (apart / of_colour[:, None, None, None]).square()).exp() * spatial[:, None, None]
    return whole((near * weights[:, None]).sum(-1) / weights.sum(-1)[:, None])


def _noise(images: Tensor, draws: Draws) -> Tensor:
    sigma, coloured = (on(images.device, column).view(-1, 1, 1, 1) for column in (draws.uniform(), draws.uniform()))
    noise = draws.normals_like(images)
    noise = torch.where(coloured < 0.5, noise, noise[:, :1])
    return whole(images + (NOISE_LIMIT * sigma * noise).round())


# In the order of ``degrade``'s; each draws as that does.
OPERATIONS = {
    "gaussian": lambda images, draws: filtered_gaussian(images, draws.uniform(0.0, 3.0)),
    "average": lambda images, draws: filtered_average(images, draws.integers(1, 5)),
    "median": lambda images, draws: filtered_median(images, draws.integers(3, 7) | 1),
    "bilateral": lambda images, draws: filtered_bilateral(
        images, draws.integers(3, 9), draws.uniform(10.0, 250.0), draws.uniform(10.0, 250.0)
    ),
    "motion": lambda images, draws: filtered_motion(images, draws.uniform(), draws.uniform(0.0, 360.0)),
    "mean_shift": lambda images, draws: mean_shift(images, draws.uniform(5.0, 40.0), draws.uniform(5.0, 40.0)),
    "superpixels": superpixels,
    "noise": _noise,
}
