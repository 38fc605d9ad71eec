"""What walks from the pack to the distiller."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from itertools import chain
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
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
        rows: ``valid_rows`` of the lengths, where they are asked for.
        weights: (N,) float32, of each label in cross entropy; None: all 1.
        seeds: (N,) uint64, of the degradation of low_res where that is still to be done.
    """

    high_res: Tensor
    low_res: Tensor
    labels: tuple[str, ...]
    targets: Tensor
    lengths: Tensor
    indices: np.ndarray
    rows: Tensor | None = None
    weights: Tensor | None = None
    seeds: np.ndarray | None = None

    def tensors(self) -> dict[str, Tensor]:
        """Those of the attributes that are there, by name."""
        return {field.name: value for field in fields(self) if isinstance(value := getattr(self, field.name), Tensor)}

    def to(self, device: torch.device) -> Batch:
        return self._with(lambda tensor: tensor.to(device, non_blocking=True))

    def pinned(self) -> Batch:
        """In memory from which a GPU copies while the processor goes on."""
        return self._with(Tensor.pin_memory)

    def belongs_to(self, stream: torch.cuda.Stream) -> None:
        """The GPU's memory of this batch is not used again before this stream is done with it."""
        for tensor in self.tensors().values():
            tensor.record_stream(stream)

    def _with(self, change: Callable[[Tensor], Tensor]) -> Batch:
        changed: dict[str, Any] = {name: change(tensor) for name, tensor in self.tensors().items()}
        return replace(self, **changed)


# Steps of the targets where a step is recorded for each shape that it meets.
TEXT_WIDTHS = (10, 14, 18, 26)
# Images that are contrasted with one another.
CONTRAST_GROUP = 64


def encode_targets(labels: Sequence[str], charset: Charset, num_steps: int | None = None) -> tuple[Tensor, Tensor]:
    """Targets and lengths of a batch of labels.

    Args:
        labels: N strings, each with at least one character of the alphabet.
        charset: the recognizer's alphabet.
        num_steps: T; by default the longest label's characters and its end. Workers of one step must agree on it.

    Returns: targets (N, T + 1) int64 as in ``Batch``, lengths (N,) int64.
    Raises: ValueError for a label without an encodable character, or longer than ``num_steps``.
    """
    encoded = [[*charset.encode(label), charset.end_id] for label in labels]
    lengths = np.array([len(ids) for ids in encoded])
    steps = num_steps or int(lengths.max())
    longest = int(lengths.argmax())
    if lengths[longest] > steps:
        raise ValueError(
            f"the label {labels[longest]!r} needs {lengths[longest]} steps and there are {steps}; leave it out"
        )
    targets = np.full((len(encoded), steps + 1), charset.pad_id)
    targets[:, 0] = charset.begin_id
    # All at once: a GPU's step is over before as many small writes.
    targets[:, 1:][np.arange(steps) < lengths[:, None]] = list(chain.from_iterable(encoded))
    return torch.from_numpy(targets), torch.from_numpy(lengths)


def valid_rows(lengths: Tensor, num_steps: int, group: int = CONTRAST_GROUP, least: int = 0) -> Tensor:
    """Where the valid steps are, group by group, so that the padding behind short words need not cost anything.

    Args:
        lengths: (N,) on the CPU, valid steps of each word: who waits for no device can know how many there are.
        num_steps: T.
        group: images contrasted with one another.
        least: M is at least this.

    Returns: (groups, M) int64, indices into (N · T); −1 behind the valid steps of a group that has fewer than M.
    """
    valid = torch.arange(num_steps) < lengths[:, None]
    steps = torch.arange(len(lengths) * num_steps).view(valid.shape)
    groups = [rows[inside] for rows, inside in zip(steps.split(group), valid.split(group), strict=True)]
    width = max(least, *map(len, groups))
    return torch.stack([F.pad(rows, (0, width - len(rows)), value=-1) for rows in groups])


def usual_rows(lengths: np.ndarray, num_steps: int, group: int = CONTRAST_GROUP) -> int:
    """M that next to no batch of ``valid_rows`` exceeds: six deviations over the mean of a group's sum.

    Args:
        lengths: (N,), valid steps of the words that batches are drawn from; of longer words num_steps count.
        num_steps: T.
        group: images contrasted with one another.
    """
    counted = np.minimum(lengths, num_steps)
    most = group * counted.mean() + 6 * math.sqrt(group) * counted.std()
    return min(group * num_steps, 8 * math.ceil(most / 8))
