"""The ``camera`` degradation of whole batches, where their pixels lie: as ``photograph`` in distribution."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import cv2
import numpy as np
import torch
from torch import Tensor

from kdltr_core.config import LOW_RES_SIZE
from kdltr_core.data import camera
from kdltr_core.data.batch_draws import Draws, Operation, change_rows, in_own_order, on
from kdltr_core.data.batch_filters import (
    constant,
    convolved,
    cubic,
    gaussian,
    linear,
    matrices_of,
    sampling,
    separable,
    whole,
)
from kdltr_core.data.batch_jpeg import compress_batch

# Pictures of few pixels lie at the top left of so many.
CANVAS = (16, 128)
# The lens blurs by one of these widths, or not at all below the first.
_WIDTHS = np.geomspace(0.1, 24.0, 160)


def photograph_batch(high_res: Tensor, seeds: np.ndarray) -> Tensor:
    """What ``photograph`` makes of each.

    Args:
        high_res: (N, 3, 32, 128) float32 in [0, 255].
        seeds: (N,) uint64.

    Returns: (N, 3, 16, 64) float32, whole numbers.
    """
    draws = Draws(seeds, 1)
    easy = draws.uniform() < camera.EASY_PROBABILITY
    strength = np.where(easy, camera.EASY_LIMIT * draws.uniform(), 1.0)
    pixels, sizes = _on_the_sensor(_through_the_lens(high_res, draws, strength), draws, strength)

    def after(number: int, change: Callable[[Tensor, Draws, np.ndarray, Tensor], Tensor]) -> Operation:
        return lambda part, rows: change(
            part, Draws(seeds[rows], 2 + number), strength[rows], sizes[on(part.device, rows)]
        )

    order = draws.columns(3).argsort(axis=1)
    operations = [after(number, change) for number, change in enumerate((_lit, _coloured, _noisy))]
    pixels = whole(_bordered(in_own_order(pixels, order, operations), sizes))
    compressed = draws.uniform() < camera.JPEG_PROBABILITY * strength
    quality, rows = draws.integers(*camera.JPEG_QUALITY), np.flatnonzero(compressed)
    change_rows(pixels, rows, lambda part, rows: compress_batch(part, on(part.device, quality[rows])))
    return whole(separable(pixels, *(_resized(sizes[:, axis, None], axis) for axis in (0, 1))))


def _through_the_lens(pixels: Tensor, draws: Draws, strength: np.ndarray) -> Tensor:
    device = pixels.device
    width = strength * np.exp(draws.normal(camera.BLUR_LOG_MEAN, camera.BLUR_LOG_DEVIATION))
    stretch = np.exp(draws.normal(camera.ANISOTROPY_LOG_MEAN, camera.ANISOTROPY_LOG_DEVIATION))
    defocused = draws.uniform() < camera.DEFOCUS_PROBABILITY
    moved = draws.uniform() < camera.MOTION_PROBABILITY * strength
    reach, angle = draws.integers(1, camera.LONGEST_MOTION), draws.uniform(0, np.pi)
    pixels = pixels.clone()
    blurred = np.flatnonzero(~defocused & (width > 0.1))
    change_rows(pixels, blurred, lambda part, rows: _blurred(part, width[rows], stretch[rows]))

    def defocus(part: Tensor, rows: np.ndarray) -> Tensor:
        return convolved(part, _disks(width[rows], device), "replicate")

    def move(part: Tensor, rows: np.ndarray) -> Tensor:
        return convolved(part, _streaks(reach[rows], angle[rows], device), "replicate")

    change_rows(pixels, np.flatnonzero(defocused), defocus)
    change_rows(pixels, np.flatnonzero(moved), move)
    return pixels


def _blurred(pixels: Tensor, width: np.ndarray, stretch: np.ndarray) -> Tensor:
    matrices = []
    for sigma, size in ((width / stretch, pixels.shape[2]), (width * stretch, pixels.shape[3])):
        index = np.abs(np.log(_WIDTHS) - np.log(sigma)[:, None]).argmin(axis=1)
        matrices.append(_lens(size, pixels.device)[on(pixels.device, index)])
    return separable(pixels, *matrices)


@cache
def _lens(size: int, device: torch.device) -> Tensor:
    """(widths, size, size)."""
    filters = [gaussian(sigma, int(2.2 * sigma) + 1, cv2.BORDER_REPLICATE) for sigma in _WIDTHS]
    return matrices_of(filters, size).to(device)


def _disks(width: np.ndarray, device: torch.device) -> Tensor:
    radius = on(device, np.minimum(camera.DEFOCUS_RADIUS * width, camera.WIDEST_DISK)).view(-1, 1, 1)
    steps = torch.arange(-int(camera.WIDEST_DISK), int(camera.WIDEST_DISK) + 1, device=device)
    kernels = (radius + 0.5 - torch.hypot(steps[:, None].float(), steps.float())).clamp(0, 1)
    return kernels / kernels.sum((1, 2), keepdim=True)


def _streaks(reach: np.ndarray, angle: np.ndarray, device: torch.device) -> Tensor:
    most = camera.LONGEST_MOTION
    kernels = [np.pad(camera.streak(int(r), a), most - r) for r, a in zip(reach, angle, strict=True)]
    return on(device, np.stack(kernels))


def _on_the_sensor(pixels: Tensor, draws: Draws, strength: np.ndarray) -> tuple[Tensor, Tensor]:
    """(N, 3, 16, 128) with the sensor's rows and columns (N, 2) at the top left."""
    device, (height, width) = pixels.device, pixels.shape[2:]
    rows = np.rint(LOW_RES_SIZE[0] - strength * (LOW_RES_SIZE[0] - draws.uniform(*camera.NATIVE_ROWS)))
    aspect = np.exp(strength * draws.normal(camera.ASPECT_LOG_MEAN, camera.ASPECT_LOG_DEVIATION))
    columns = np.clip(np.rint(4 * rows * aspect), 8, 2 * LOW_RES_SIZE[1])
    sizes, kernel = on(device, np.stack([rows, columns], axis=1)), draws.integers(0, 2)
    areal, cubical = (on(device, kernel == number).view(-1, 1, 1) for number in (0, 2))
    matrices = []
    for axis, (size, most) in enumerate(zip((height, width), CANVAS, strict=True)):
        shift = on(device, strength * draws.uniform(-0.5, 0.5))[:, None]
        outputs = torch.minimum(torch.arange(most, device=device), sizes[:, axis, None] - 1)
        scale, all_there = size / sizes[:, axis, None], torch.full_like(shift, size)
        places = (outputs + 0.5 + shift) * scale - 0.5
        between = torch.where(
            cubical, sampling(places, cubic, 2, all_there, size), sampling(places, linear, 1, all_there, size)
        )
        # The mean over a pixel of the sensor, of a picture that was moved before.
        inputs = torch.arange(size, device=device)
        start = (outputs * scale)[..., None]
        covered = (torch.minimum(start + scale[..., None], inputs + 1) - torch.maximum(start, inputs)).clamp(min=0)
        mean = covered / covered.sum(-1, keepdim=True) @ sampling(inputs - shift * scale, linear, 1, all_there, size)
        matrices.append(torch.where(areal, mean, between))
    return separable(pixels, *matrices), sizes


def _lit(pixels: Tensor, draws: Draws, strength: np.ndarray, sizes: Tensor) -> Tensor:
    contrast = 1 - strength * draws.uniform(0, 1 - camera.LEAST_CONTRAST)
    cast = 1 + strength[:, None] * camera.COLOUR_CAST * (draws.columns(3) - 0.5)
    brightness = strength * camera.BRIGHTNESS * draws.uniform(-0.5, 0.5)
    inside = _inside(sizes).float()
    mean = (pixels * inside).sum((2, 3), keepdim=True) / inside.sum((2, 3), keepdim=True)
    added, factor = (on(pixels.device, v)[..., None, None] for v in (cast - contrast[:, None], contrast[:, None]))
    return pixels * factor + mean * added + on(pixels.device, brightness).view(-1, 1, 1, 1)


def _coloured(pixels: Tensor, draws: Draws, strength: np.ndarray, sizes: Tensor) -> Tensor:
    device, limit = pixels.device, camera.LONGEST_CHROMA_SHIFT
    shifted = draws.uniform() < camera.CHROMA_SHIFT_PROBABILITY * strength
    shifts = [shifted * draws.uniform(-limit, limit) for _ in CANVAS]
    blurred = draws.uniform() < camera.CHROMA_BLUR_PROBABILITY * strength
    # Of next to no width: none.
    sigma = on(device, np.where(blurred, draws.uniform(*camera.CHROMA_BLUR), 1e-3)).view(-1, 1, 1)
    moves, blurs, reach = [], [], int(4 * camera.CHROMA_BLUR[1])
    for axis, most in enumerate(CANVAS):
        outputs = torch.arange(most, device=device).expand(len(pixels), -1)
        size, shift = sizes[:, axis, None], on(device, shifts[axis])[:, None]
        of_channels = torch.cat([outputs - shift, outputs.float(), outputs + shift], dim=1)
        moves.append(sampling(of_channels, linear, 1, size, most).unflatten(1, (3, most)))
        blurs.append(sampling(outputs.float(), lambda far: (-0.5 * (far / sigma).square()).exp(), reach, size, most))
    pixels = separable(pixels, *moves)
    luma = torch.einsum("nchw,c->nhw", pixels, constant(camera.LUMA, device))[:, None]
    return luma + separable(pixels - luma, *blurs)


def _noisy(pixels: Tensor, draws: Draws, strength: np.ndarray, sizes: Tensor) -> Tensor:
    variance = camera.READ_NOISE + (camera.SHOT_NOISE / 128) * pixels.clamp(min=0)
    amount = on(pixels.device, strength * camera.NOISE_LIMIT * draws.uniform()).view(-1, 1, 1, 1)
    return pixels + amount * draws.normals_like(pixels) * variance.sqrt()


def _inside(sizes: Tensor) -> Tensor:
    """(N, 1, 16, 128) bool."""
    rows, columns = (torch.arange(most, device=sizes.device) < sizes[:, axis, None] for axis, most in enumerate(CANVAS))
    return (rows[:, :, None] & columns[:, None])[:, None]


def _bordered(pixels: Tensor, sizes: Tensor) -> Tensor:
    """The last row and column go on to the end of the canvas."""
    rows, columns = (
        torch.minimum(torch.arange(most, device=sizes.device), sizes[:, axis, None] - 1).long()
        for axis, most in enumerate(CANVAS)
    )
    pixels = pixels.gather(2, rows[:, None, :, None].expand_as(pixels))
    return pixels.gather(3, columns[:, None, None].expand_as(pixels))


def _resized(sizes: Tensor, axis: int) -> Tensor:
    outputs = torch.arange(LOW_RES_SIZE[axis], device=sizes.device)
    return sampling((outputs + 0.5) * sizes / LOW_RES_SIZE[axis] - 0.5, cubic, 2, sizes, CANVAS[axis])
