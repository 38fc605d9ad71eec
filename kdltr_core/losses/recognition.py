"""Recognition: cross entropy with the label."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

_IGNORED = -100


def recognition(
    logits: Tensor,
    targets: Tensor,
    lengths: Tensor,
    num_valid_steps: Tensor | None = None,
    weights: Tensor | None = None,
) -> Tensor:
    """Cross entropy, mean over the valid steps of the batch and over permutations.

    Args:
        logits: (P, N, T, C), any float type; computed in float32.
        targets: (N, T + 1) class ids, the begin class first: ``targets[:, t + 1]`` belongs to output step t.
        lengths: (N,), valid steps of each word, the end included.
        num_valid_steps: scalar, the number of valid steps (of one permutation) to divide by instead of this batch's
            own. Workers whose gradients are averaged pass the joined batch's number divided by the number of workers.
        weights: (N,), what the steps of each word are multiplied by; None: 1. The divisor does not change, so that a
            labelled word counts as much whatever the weight of the others.

    Returns: scalar, in nats.
    """
    num_permutations, _, num_steps, _ = logits.shape
    assert targets.shape[1] == num_steps + 1, f"{num_steps} steps of logits, {targets.shape[1] - 1} of targets"
    valid = torch.arange(num_steps, device=logits.device) < lengths[:, None]
    classes = targets[:, 1:].masked_fill(~valid, _IGNORED).expand(num_permutations, -1, -1)
    flat = (logits.float().flatten(0, 2), classes.flatten())
    if weights is None:
        summed = F.cross_entropy(*flat, ignore_index=_IGNORED, reduction="sum")
    else:
        of_steps = F.cross_entropy(*flat, ignore_index=_IGNORED, reduction="none").view(classes.shape)
        summed = (of_steps * weights[:, None]).sum()
    count = lengths.sum() if num_valid_steps is None else num_valid_steps
    return summed / (num_permutations * count)
