"""Mean-shift blur of whole batches, all pixels at once: the smoothing of OpenCV's ``pyrMeanShiftFiltering``."""

from __future__ import annotations

from functools import cache

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from kdltr_core.data.batch_draws import on
from kdltr_core.data.batch_filters import in_parts, matrices_of, patches, separable, whole

# Every pixel is compared with every other one: so many pictures at a time take some 1.3 GB.
_PICTURES_AT_A_TIME = 128
_STEPS = 5


def mean_shift(images: Tensor, reach: np.ndarray, colours: np.ndarray) -> Tensor:
    """(N, 3, H, W) whole numbers; radii (N,) in pixels and in grey levels.

    OpenCV with two levels and in place: the fine level is the coarse one, shifted and enlarged, and shifted again. It
    goes on from pixels that it has just written; here all pixels shift at once.
    """
    return in_parts(_two_levels, _PICTURES_AT_A_TIME, images, *(on(images.device, v) for v in (reach, colours)))


def _two_levels(images: Tensor, reach: Tensor, colours: Tensor) -> Tensor:
    nearest, (rows, columns) = colours.square().round(), images.shape[2:]
    halves, doubles = _pyramid(rows, columns, images.device)
    coarse = _shift(whole(separable(images, *halves)), (reach / 2).clamp(min=1), nearest)
    fine = whole(separable(coarse, *doubles))
    # Where a coarse pixel differs from one of the eight around it; those of the frame do not ask.
    apart = (patches(coarse, 1, "replicate") - coarse[..., None]).square().sum(1)
    edges = (apart >= nearest.clamp(min=16)[:, None, None, None]).any(-1)[:, None, 1:-1, 1:-1].float()
    mask = images.new_zeros(len(images), 1, rows, columns)
    mask[:, :, 1 : rows - 3 : 2, 1 : columns - 3 : 2] = edges
    return torch.where(F.max_pool2d(mask, 3, 1, 1) > 0, _shift(fine, reach, nearest), fine)


def _shift(images: Tensor, reach: Tensor, nearest: Tensor) -> Tensor:
    """Every pixel moved, in place and colour, to the mean of what is near it in both, a few times over."""
    n, _, rows, columns = images.shape
    colours = images.flatten(2).transpose(1, 2)
    y, x = torch.meshgrid(*(torch.arange(float(s), device=images.device) for s in (rows, columns)), indexing="ij")
    places = torch.stack([y.flatten(), x.flatten()], dim=1).expand(n, -1, -1)
    summed = torch.cat([places, colours, torch.ones_like(colours[..., :1])], dim=2)
    window = reach.round()[:, None, None]
    at, now = places, colours
    done = torch.zeros(n, rows * columns, 1, dtype=torch.bool, device=images.device)
    for _ in range(_STEPS):
        near = _squared_distances(now, colours) <= nearest[:, None, None]
        for axis, (size, shape) in enumerate(((rows, (rows, 1)), (columns, (1, columns)))):
            steps = torch.arange(size, device=images.device)
            inside = (steps - at[..., axis, None]).abs() <= window
            near.view(n, -1, rows, columns).logical_and_(inside.view(n, -1, *shape))
        sums = near.float() @ summed
        means = (sums[..., :5] / sums[..., 5:].clamp(min=1)).round()
        done = done | (sums[..., 5:] == 0)
        moved = (means[..., :2] - at).abs().sum(2, keepdim=True)
        changed = (means[..., 2:] - now).square().sum(2, keepdim=True)
        at, now = torch.where(done, at, means[..., :2]), torch.where(done, now, means[..., 2:])
        done = done | (moved == 0) | (moved + changed <= 1)
    return now.transpose(1, 2).unflatten(2, (rows, columns))


def _squared_distances(one: Tensor, other: Tensor) -> Tensor:
    """(N, K, L) of (N, K, 3) and (N, L, 3), as one product; of whole numbers exactly."""
    squares, ones = one.square().sum(2, keepdim=True), torch.ones_like(one[..., :1])
    others = torch.cat([-2 * other, torch.ones_like(other[..., :1]), other.square().sum(2, keepdim=True)], dim=2)
    return torch.cat([one, squares, ones], dim=2) @ others.transpose(1, 2)


@cache
def _pyramid(rows: int, columns: int, device: torch.device) -> tuple[list[Tensor], list[Tensor]]:
    """What halves and what doubles rows and columns."""
    return (
        [matrices_of([cv2.pyrDown], size).to(device) for size in (rows, columns)],
        [matrices_of([cv2.pyrUp], size // 2).to(device) for size in (rows, columns)],
    )
