"""Random numbers for whole batches: each follows from a pair's seed alone, whatever else is in the batch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod

import numpy as np
import torch
from torch import Tensor

from kdltr_core.seeding import SPLITMIX64_FACTORS, splitmix64

# What an operation makes of some images (M, 3, H, W), of which it is told the rows in the batch.
Operation = Callable[[Tensor, np.ndarray], Tensor]


class Draws:
    """Columns of random numbers (N,), one after the other, by splitmix64.

    Args:
        seeds: (N,) uint64.
        stream: another one has other numbers.
    """

    def __init__(self, seeds: np.ndarray, stream: int) -> None:
        self.seeds, self._next = np.asarray(seeds, np.uint64), stream << 16

    def bits(self) -> np.ndarray:
        """(N,) uint64."""
        self._next += 1
        return splitmix64(self.seeds, self._next)

    def uniform(self, low: float = 0.0, high: float = 1.0) -> np.ndarray:
        """(N,) float64 in [low, high)."""
        return low + (high - low) * (self.bits() >> np.uint64(11)) * 2.0**-53

    def integers(self, low: int, high: int) -> np.ndarray:
        """(N,) int64 in [low, high]."""
        return np.floor(self.uniform(low, high + 1)).astype(np.int64)

    def normal(self, mean: float, deviation: float) -> np.ndarray:
        radius = np.sqrt(-2 * np.log(1 - self.uniform()))
        return mean + deviation * radius * np.cos(2 * np.pi * self.uniform())

    def columns(self, num: int) -> np.ndarray:
        """(N, num) float64 in [0, 1)."""
        return np.stack([self.uniform() for _ in range(num)], axis=1)

    def normals_like(self, images: Tensor) -> Tensor:
        """Standard normal numbers (N, …) float32, made where the images are."""
        seeds = on(images.device, self.bits().view(np.int64))[:, None]
        num = prod(images.shape[1:])
        first, second = (_hashed(seeds + torch.arange(i, 2 * num, 2, device=images.device)) for i in (0, 1))
        return ((-2 * (1 - first).log()).sqrt() * (2 * torch.pi * second).cos()).view(images.shape)


def _hashed(x: Tensor) -> Tensor:
    """int64 to float32 in [0, 1); a shift to the right brings the sign along, which is masked away."""
    for shift, factor in zip((30, 27, 31), (*SPLITMIX64_FACTORS, 1 << 64 | 1), strict=True):
        x = (x ^ ((x >> shift) & ((1 << (64 - shift)) - 1))) * (factor - (1 << 64))
    return (x >> 40 & 0xFFFFFF).float() * 2.0**-24


def on(device: torch.device, values: np.ndarray) -> Tensor:
    """A copy on the device, which the processor does not wait for; float64 becomes float32."""
    values = values.astype(np.float32) if values.dtype == np.float64 else values
    tensor = torch.from_numpy(np.ascontiguousarray(values))
    return (tensor.pin_memory() if device.type == "cuda" else tensor).to(device, non_blocking=True)


def change_rows(images: Tensor, rows: np.ndarray, operation: Operation) -> None:
    """In place; no rows are no work."""
    if len(rows):
        places = on(images.device, rows)
        images[places] = operation(images[places], rows)


def in_own_order(
    images: Tensor, queues: np.ndarray, operations: Sequence[Operation], costly: Sequence[int] = ()
) -> Tensor:
    """Every image through its own operations in its own order, each time those of many images that are next.

    Args:
        images: (N, 3, H, W); changed in place.
        queues: (N, K) which operation is first, second, …; behind the last one −1.
        costly: those of many kernels, which wait until nothing else is next.
    """
    queues = np.pad(queues, ((0, 0), (0, 1)), constant_values=-1)
    done: np.ndarray = np.zeros(len(queues), np.int64)
    while (following := queues[np.arange(len(queues)), done]).max(initial=-1) >= 0:
        counts = np.bincount(following[following >= 0], minlength=len(operations)).astype(float)
        counts[list(costly)] /= len(images) + 1
        commonest = int(counts.argmax())
        rows = np.flatnonzero(following == commonest)
        change_rows(images, rows, operations[commonest])
        done[rows] += 1
    return images
