"""What walks from the pack to the distiller."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from kdltr_core.charset import Charset


@dataclass(frozen=True)
class Batch:
    """Pairs of images and their encoded labels.

    Attributes:
        high_res: (N, 3, 32, 128) uint8.
        low_res: (N, 3, 16, 64) uint8.
        labels: N strings as the data set has them.
        targets: (N, T + 1) class ids: begin, characters, end, then pad.
        lengths: (N,) how many of the T output steps count: the encoded characters and the end.
        indices: (N,) int64, which pairs of the training set these are.
    """

    high_res: Tensor
    low_res: Tensor
    labels: tuple[str, ...]
    targets: Tensor
    lengths: Tensor
    indices: np.ndarray

    def to(self, device: torch.device) -> Batch:
        moved = {
            k: getattr(self, k).to(device, non_blocking=True) for k in ("high_res", "low_res", "targets", "lengths")
        }
        return replace(self, **moved)


def encode_targets(labels: Sequence[str], charset: Charset, num_steps: int | None = None) -> tuple[Tensor, Tensor]:
    """Targets and lengths of a batch of labels.

    Args:
        labels: N strings, each with at least one character of the alphabet.
        charset: the recognizer's alphabet.
        num_steps: T; by default the longest label's characters and its end. Workers of one step must agree on it.

    Returns: targets (N, T + 1) int64 as in ``Batch``, lengths (N,) int64.
    Raises: ValueError for a label without an encodable character, or longer than ``num_steps``.
    """
    encoded = [charset.encode(label) for label in labels]
    steps = num_steps or max(len(ids) for ids in encoded) + 1
    targets = torch.full((len(encoded), steps + 1), charset.pad_id, dtype=torch.int64)
    targets[:, 0] = charset.begin_id
    for row, ids in enumerate(encoded):
        if len(ids) + 1 > steps:
            raise ValueError(
                f"the label {labels[row]!r} needs {len(ids) + 1} steps and there are {steps}; leave it out"
            )
        targets[row, 1 : len(ids) + 1] = torch.tensor(ids)
        targets[row, len(ids) + 1] = charset.end_id
    return targets, torch.tensor([len(ids) + 1 for ids in encoded])
