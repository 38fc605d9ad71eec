"""Whether degradation in batch, on a device, has the distribution of the CPU's, operation by operation."""

from __future__ import annotations

import numpy as np
import torch
from pydantic import TypeAdapter
from torch import Tensor

from kdltr_core.config import DegradationName
from kdltr_core.data.batch_degrade import make_low_res_batch
from kdltr_core.data.batch_draws import Draws
from kdltr_core.data.batch_published import OPERATIONS
from kdltr_core.data.camera import photograph
from kdltr_core.data.degrade import PUBLISHED

KINDS = (*OPERATIONS, "camera")


def standard_errors(kind: str, high_res: Tensor, low_res: Tensor, device: torch.device) -> dict[str, float]:
    """How far what is drawn in batch is from what is drawn one by one, in standard errors of the difference.

    Args:
        kind: one of ``KINDS``.
        high_res: (N, 3, 32, 128) uint8.
        low_res: (N, 3, 16, 64) uint8.

    Returns: of every statistic of a picture, the mean and the spread.
    """
    if kind == "camera":
        one_by_one = [photograph(_upright(image), seed) for seed, image in enumerate(high_res)]
    else:
        change = PUBLISHED[list(OPERATIONS).index(kind)]
        one_by_one = [change(_upright(image), np.random.default_rng(seed)) for seed, image in enumerate(low_res)]
    expected, found = (
        _statistics(pictures)
        for pictures in (
            np.stack(one_by_one).transpose(0, 3, 1, 2),
            drawn_in_batch(kind, high_res.to(device), low_res.to(device)).cpu().numpy(),
        )
    )
    result = {}
    for name, values in expected.items():
        others, middle = found[name], np.concatenate([values, found[name]]).mean()
        result[name] = _in_errors(values - others)
        result[f"spread of {name}"] = _in_errors(np.square(values - middle) - np.square(others - middle))
    return result


def drawn_in_batch(kind: str, high_res: Tensor, low_res: Tensor) -> Tensor:
    """(N, 3, 16, 64) on the pictures' device, of ``published`` and ``mixed`` too."""
    seeds = np.random.default_rng(0).integers(0, 2**63, len(low_res), np.uint64)
    if kind not in OPERATIONS:
        return make_low_res_batch(high_res, low_res, seeds, TypeAdapter(DegradationName).validate_python(kind))
    return OPERATIONS[kind](low_res.float(), Draws(seeds, 0))


def _upright(image: Tensor) -> np.ndarray:
    return np.ascontiguousarray(image.permute(1, 2, 0).numpy())


def _statistics(pictures: np.ndarray) -> dict[str, np.ndarray]:
    """(N,) each, of (N, 3, 16, 64)."""
    pictures = pictures.astype(float)
    blocks = pictures.reshape(len(pictures), 3, 4, 4, 16, 4)
    return {
        "mean": pictures.mean((1, 2, 3)),
        "deviation": pictures.std((1, 2, 3)),
        "gradient across": np.abs(np.diff(pictures, axis=3)).mean((1, 2, 3)),
        "gradient down": np.abs(np.diff(pictures, axis=2)).mean((1, 2, 3)),
        "local contrast": np.ptp(blocks, axis=(3, 5)).mean((1, 2, 3)),
        "colour": pictures.std(1).mean((1, 2)),
    }


def _in_errors(differences: np.ndarray) -> float:
    # What rounds otherwise is no other distribution.
    error = max(differences.std() / np.sqrt(len(differences)), 0.05)
    return float(differences.mean() / error)
