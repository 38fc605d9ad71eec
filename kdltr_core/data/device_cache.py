"""The pixels of a training set where the step computes: kept there if there is room, and degraded there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import prod

import numpy as np
import torch

from kdltr_core.data.batch import Batch
from kdltr_core.data.batch_degrade import make_low_res_batch
from kdltr_core.data.batch_draws import on
from kdltr_core.data.dataset import TrainingPairs
from kdltr_core.data.pack import HIGH_RES_SHAPE, LOW_RES_SHAPE

_PAIRS_AT_A_TIME = 1024
_BYTES_A_PAIR = prod(HIGH_RES_SHAPE) + prod(LOW_RES_SHAPE)
# Of the memory that is free before the first step; the other half is the step's.
_SHARE_OF_FREE = 0.5


class DeviceCache:
    """What brings the pixels of batches on one device, degraded there.

    Args:
        keeps: all pairs of the set are kept there as uint8, 15 kB each, and batches need bring none; else they bring
            those of ``TrainingPairs.gather_packed``.

    Raises: torch.OutOfMemoryError if the device has no room.
    """

    def __init__(self, pairs: TrainingPairs, device: torch.device, keeps: bool = True) -> None:
        self.keeps, self._device = keeps, device
        self._degradation, self._degraded = pairs.degradation, pairs.degraded
        if not keeps:
            return
        self._high_res, self._low_res = (
            torch.empty((len(pairs), *shape), dtype=torch.uint8, device=device)
            for shape in (HIGH_RES_SHAPE, LOW_RES_SHAPE)
        )
        for start in range(0, len(pairs), _PAIRS_AT_A_TIME):
            rows = slice(start, min(start + _PAIRS_AT_A_TIME, len(pairs)))
            self._high_res[rows], self._low_res[rows] = pairs.gather_packed(np.arange(rows.start, rows.stop))

    def fill(self, batches: Sequence[Batch]) -> list[Batch]:
        """The batches with the pixels of their indices, degraded by their seeds, on the device.

        The more at a time, the fewer kernels for each; a pair's pixels do not depend on what is filled with it.
        """
        indices = np.concatenate([batch.indices for batch in batches])
        if self.keeps:
            places = on(self._device, indices)
            high_res, low_res = self._high_res[places], self._low_res[places]
        else:
            high_res, low_res = (torch.cat([getattr(b, side) for b in batches]) for side in ("high_res", "low_res"))
        rows = np.flatnonzero(self._degraded[indices])
        if len(rows):
            seeds = np.concatenate([batch.seeds for batch in batches if batch.seeds is not None])
            low_res = make_low_res_batch(high_res, low_res, seeds, self._degradation, rows)
        sides = (side.split([len(batch.indices) for batch in batches]) for side in (high_res, low_res))
        return [replace(b, high_res=high, low_res=low) for b, high, low in zip(batches, *sides, strict=True)]


def has_room(num_pairs: int, device: torch.device) -> bool:
    """Whether so many pairs are kept on the device: on a GPU, in half of the memory that is free."""
    return device.type == "cuda" and num_pairs * _BYTES_A_PAIR <= _SHARE_OF_FREE * torch.cuda.mem_get_info(device)[0]
