"""Recognition: cross entropy with the label."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

_IGNORED = -100


def recognition(logits: Tensor, targets: Tensor, lengths: Tensor, num_valid_steps: Tensor | None = None) -> Tensor:
    """Cross entropy, mean over the valid steps of the batch and over permutations.

    Args:
        logits: (P, N, T, C), any float type; computed in float32.
        targets: (N, T + 1) class ids, the begin class first: ``targets[:, t + 1]`` belongs to output step t.
        lengths: (N,), valid steps of each word, the end included.
        num_valid_steps: scalar, the number of valid steps (of one permutation) to divide by instead of this batch's
            own. Workers whose gradients are averaged pass the joined batch's number divided by the number of workers.

    Returns: scalar, in nats.
    """
    num_permutations, _, num_steps, _ = logits.shape
    assert targets.shape[1] == num_steps + 1, f"{num_steps} steps of logits, {targets.shape[1] - 1} of targets"
    valid = torch.arange(num_steps, device=logits.device) < lengths[:, None]
    classes = targets[:, 1:].masked_fill(~valid, _IGNORED).expand(num_permutations, -1, -1)
    summed = F.cross_entropy(logits.float().flatten(0, 2), classes.flatten(), ignore_index=_IGNORED, reduction="sum")
    count = lengths.sum() if num_valid_steps is None else num_valid_steps
    return summed / (num_permutations * count)
