"""The pixels of a whole training set, kept where the step computes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from kdltr_core.data.batch import Batch
from kdltr_core.data.dataset import TrainingPairs
from kdltr_core.data.pack import HIGH_RES_SHAPE, LOW_RES_SHAPE

_PAIRS_AT_A_TIME = 1024


class DeviceCache:
    """All pairs of a set as uint8 on one device, 15 kB each, from which batches are gathered there.

    Raises: as ``check_unchanging``; torch.OutOfMemoryError if the device has no room.
    """

    def __init__(self, pairs: TrainingPairs, device: torch.device) -> None:
        check_unchanging(pairs)
        self._high_res, self._low_res = (
            torch.empty((len(pairs), *shape), dtype=torch.uint8, device=device)
            for shape in (HIGH_RES_SHAPE, LOW_RES_SHAPE)
        )
        for start in range(0, len(pairs), _PAIRS_AT_A_TIME):
            rows = slice(start, min(start + _PAIRS_AT_A_TIME, len(pairs)))
            self._high_res[rows], self._low_res[rows] = pairs.gather(np.arange(rows.start, rows.stop))

    def fill(self, batch: Batch) -> Batch:
        """The batch with the pixels of its indices, on the device."""
        indices = torch.from_numpy(batch.indices)
        if self._high_res.is_cuda:
            indices = indices.pin_memory().to(self._high_res.device, non_blocking=True)
        return replace(batch, high_res=self._high_res[indices], low_res=self._low_res[indices])


def check_unchanging(pairs: TrainingPairs) -> None:
    """Raises: ValueError if a pair's pixels are made anew in every epoch, which is done on the host."""
    degraded = [pack.name for pack in pairs.packs if pack.kind == "single" and pairs.degradation != "none"]
    if degraded:
        raise ValueError(
            f"data.placement is device, and low_res of {', '.join(degraded)} is degraded (data.train_degradation "
            f"{pairs.degradation}) anew in every epoch, which is done on the host; leave --data.placement out, or "
            "train on paired sets or with --data.train-degradation none"
        )
