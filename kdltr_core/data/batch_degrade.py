"""Training images made worse in batch, where their pixels lie: ``make_low_res`` in distribution, not in bytes."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from kdltr_core.config import DegradationName
from kdltr_core.data.batch_camera import photograph_batch
from kdltr_core.data.batch_draws import Draws, on
from kdltr_core.data.batch_published import degrade_batch
from kdltr_core.data.degrade import MIXED, MIXED_PROBABILITIES, degrade


def make_low_res_batch(
    high_res: Tensor, low_res: Tensor, seeds: np.ndarray, name: DegradationName, rows: np.ndarray | None = None
) -> Tensor:
    """One random draw of low_res for each pair, which follows from its seed whatever else is in the batch.

    Args:
        high_res: (N, 3, 32, 128) uint8, RGB.
        low_res: (N, 3, 16, 64) uint8, the same pictures resized. Neither is changed.
        seeds: (N,) uint64.
        name: any; ``interlaced``, which only the demo uses, is drawn on the host.
        rows: which of the pairs are degraded; None: all. The others stay as they are.

    Returns: (N, 3, 16, 64) uint8.
    """
    rows, result = np.arange(len(seeds)) if rows is None else rows, low_res.clone()
    kinds = np.full(len(rows), name, dtype=object)
    if name == "mixed":
        bounds = np.cumsum(MIXED_PROBABILITIES)[:-1]
        kinds = np.array(MIXED, dtype=object)[np.searchsorted(bounds, Draws(seeds[rows], 0).uniform(), "right")]
    makers = (("published", low_res, degrade_batch), ("camera", high_res, photograph_batch))
    for kind, images, make in (*makers, ("interlaced", low_res, _interlaced)):
        if len(chosen := rows[kinds == kind]):
            places = on(low_res.device, chosen)
            result[places] = make(images[places].float(), seeds[chosen]).to(torch.uint8)
    return result


def _interlaced(images: Tensor, seeds: np.ndarray) -> Tensor:
    pictures = images.to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy()
    drawn = [degrade(picture, int(seed), "interlaced") for picture, seed in zip(pictures, seeds, strict=True)]
    return on(images.device, np.stack(drawn)).permute(0, 3, 1, 2)
