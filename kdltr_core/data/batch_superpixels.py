"""Superpixels of whole batches: k-means in colour and place as ``slic``, and what is left of its pieces."""

from __future__ import annotations

from functools import cache

import numpy as np
import torch
from torch import Tensor

from kdltr_core.data.batch_draws import Draws, on
from kdltr_core.data.batch_filters import constant

_STEPS = 10
_COMPACTNESS = 10.0
# Pieces smaller than half a segment join a neighbour, so that there are not more than ten.
_LEAST, _MOST, _MOST_SEGMENTS = 0.5, 3.0, 10
# Rounds after which every pixel of a piece has heard of its first one.
_ROUNDS = 8
_TO_XYZ = ((0.412453, 0.357580, 0.180423), (0.212671, 0.715160, 0.072169), (0.019334, 0.119193, 0.950227))
_WHITE = (0.95047, 1.0, 1.08883)


def superpixels(images: Tensor, draws: Draws) -> Tensor:
    """Some of 1 to 7 segments in the mean colour of the next one, as ``degrade`` paints them.

    A piece that is too large is cut, and one that is too small joins its neighbour, nearly as ``slic`` does.
    """
    num_segments, probability = draws.integers(1, 7), draws.uniform(0.1, 0.5)
    replaced = draws.columns(7) < probability[:, None]
    following = np.arange(1, _MOST_SEGMENTS + 1) % num_segments[:, None]
    painted = on(images.device, np.take_along_axis(replaced, following, axis=1))
    grids = [_grid(*images.shape[2:], num) for num in num_segments]
    centres, steps, sizes = (np.stack(values) for values in zip(*grids, strict=True))

    segments = _nearest_centres(images, on(images.device, centres), on(images.device, steps))
    segments = _joined_pieces(segments.view(-1, *images.shape[2:]), on(images.device, sizes))
    colours, members = images.flatten(2).transpose(1, 2), _members(segments, _MOST_SEGMENTS)
    counts = members.sum(1)
    means = (members.transpose(1, 2) @ colours / counts[..., None].clamp(min=1)).round()
    painted = (painted & (counts.roll(-1, 1) > 0)).gather(1, segments)[..., None]
    colours = torch.where(painted, means.roll(-1, 1).gather(1, segments[..., None].expand(-1, -1, 3)), colours)
    return colours.transpose(1, 2).unflatten(2, images.shape[2:])


@cache
def _grid(rows: int, columns: int, num_segments: int) -> tuple[np.ndarray, float, np.ndarray]:
    """Where ``slic`` begins: centres (7, 2), those that are not there at infinity; their distance; limits of pieces."""
    from skimage.util import regular_grid

    _, down, across = regular_grid((1, rows, columns), num_segments)
    places = np.stack(np.meshgrid(np.arange(rows)[down], np.arange(columns)[across], indexing="ij"), -1).reshape(-1, 2)
    centres = np.full((7, 2), np.inf)
    centres[: len(places)] = places
    limits = np.array([_LEAST, _MOST]) * rows * columns / len(places)
    return centres, float(max(down.step or 1, across.step or 1)), limits.astype(int)


def _nearest_centres(images: Tensor, centres: Tensor, steps: Tensor) -> Tensor:
    """(N, H · W) int64."""
    n, _, rows, columns = images.shape
    least, most = images.flatten(1).amin(1), images.flatten(1).amax(1)
    scaled = (images - least.view(-1, 1, 1, 1)) / (most - least).clamp(min=1).view(-1, 1, 1, 1)
    colours = _lab(scaled).flatten(2).transpose(1, 2) / _COMPACTNESS
    y, x = torch.meshgrid(*(torch.arange(float(s), device=images.device) for s in (rows, columns)), indexing="ij")
    places = torch.stack([y.flatten(), x.flatten()], dim=1).expand(n, -1, -1)
    exists = centres.isfinite().all(2)
    at, shade = torch.where(exists[..., None], centres, 0.0), colours.new_zeros(n, 7, 3)
    for _ in range(_STEPS):
        apart = (places[:, :, None] - at[:, None]).abs()
        distance = apart.square().sum(3) / steps[:, None, None].square()
        distance = distance + (colours[:, :, None] - shade[:, None]).square().sum(3)
        outside = (apart > 2 * steps[:, None, None, None]).any(3) | ~exists[:, None]
        segments = distance.masked_fill(outside, float("inf")).argmin(2)
        members = _members(segments, 7).transpose(1, 2)
        counts = members.sum(2, keepdim=True).clamp(min=1)
        at, shade = members @ places / counts, members @ colours / counts
    return segments


def _joined_pieces(segments: Tensor, limits: Tensor) -> Tensor:
    """Pieces of segments (N, H, W), which may be scattered, cut and joined until each is within limits (N, 2).

    Returns: (N, H · W) int64, numbered by their first pixels.
    """
    (_, rows, columns), numbers = segments.shape, torch.arange(segments[0].numel(), device=segments.device)
    first = _first_pixels(segments)
    # What is beyond the limit is farthest from the first pixel.
    y, x = numbers // columns, numbers % columns
    far = (y - first // columns).abs() + (x - first % columns).abs()
    order = ((first * (rows + columns) + far) * len(numbers) + numbers).argsort(1)
    place = torch.zeros_like(order).scatter(1, order, numbers.expand_as(order))
    sizes = _sizes(first)
    place = place - (sizes.cumsum(1) - sizes).gather(1, first)
    first = _first_pixels(segments * 2 + (place >= limits[:, 1:]).view_as(segments))

    kept = _sizes(first) >= limits[:, :1]
    before = torch.where(x > 0, numbers - 1, (numbers - columns).clamp(min=0))
    joins = torch.where(kept, numbers, first[:, before])
    for _ in range(_ROUNDS):
        joins = joins.gather(1, joins)
    return (kept.cumsum(1) - 1).clamp(min=0).gather(1, joins.gather(1, first))


def _first_pixels(segments: Tensor) -> Tensor:
    """(N, H · W): of each pixel, the number of the first pixel of the connected piece that it belongs to."""
    shape = segments.shape
    first = torch.arange(segments[0].numel(), device=segments.device).expand(len(segments), -1)
    equal = [segments.diff(dim=axis) == 0 for axis in (1, 2)]
    for _ in range(_ROUNDS):
        grid = first.view(shape).clone()
        for axis, same in zip((1, 2), equal, strict=True):
            one, other = (grid.narrow(axis, start, shape[axis] - 1) for start in (0, 1))
            one.copy_(torch.where(same, torch.minimum(one, other), one))
            other.copy_(torch.where(same, torch.minimum(one, other), other))
        first = first.scatter_reduce(1, first, grid.flatten(1), "amin")
        first = torch.minimum(grid.flatten(1), first.gather(1, first))
        first = first.gather(1, first)
    return first


def _members(segments: Tensor, num: int) -> Tensor:
    """(N, H · W, num) float32, as ``one_hot``, which may wait for the device."""
    return (segments[..., None] == torch.arange(num, device=segments.device)).float()


def _sizes(first: Tensor) -> Tensor:
    """(N, H · W): how many pixels have that first one."""
    return torch.zeros_like(first).scatter_add(1, first, torch.ones_like(first))


def _lab(images: Tensor) -> Tensor:
    """sRGB (N, 3, H, W) in [0, 1] to CIELAB under D65, as scikit-image's ``rgb2lab``."""
    linear = torch.where(images > 0.04045, ((images + 0.055) / 1.055).pow(2.4), images / 12.92)
    xyz = torch.einsum("dc,nchw->ndhw", constant(_TO_XYZ, images.device), linear)
    xyz = xyz / constant(_WHITE, images.device).view(3, 1, 1)
    x, y, z = torch.where(xyz > 0.008856, xyz.clamp(min=1e-9).pow(1 / 3), 7.787 * xyz + 16 / 116).unbind(1)
    return torch.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], dim=1)
