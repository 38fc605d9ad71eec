"""Semantic contrast: the student's vector of a character is drawn to the teacher's, and away from all others."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Projector(nn.Module):
    """The space in which student and teacher are contrasted: a bidirectional LSTM over the steps, then a linear map.

    Shared by both sides and trained with the student.
    """

    def __init__(self, input_width: int, hidden_width: int = 256, output_width: int = 512) -> None:
        super().__init__()
        self.rnn = nn.LSTM(input_width, hidden_width, bidirectional=True, batch_first=True)
        self.linear = nn.Linear(2 * hidden_width, output_width)

    def forward(self, semantic: Tensor) -> Tensor:
        """(..., T, D) → (..., T, output width)."""
        steps = semantic.flatten(0, -3)
        return self.linear(self.rnn(steps)[0]).unflatten(0, semantic.shape[:-2])


def semantic_contrast(
    student: Tensor,
    teacher: Tensor,
    lengths: Tensor,
    projector: nn.Module,
    temperature: float = 0.1,
    group: int = 64,
    rows: Tensor | None = None,
) -> Tensor:
    """Contrast of projected semantic vectors (Guo et al. 2023, semantic contrastive loss).

    Within a group of images, the valid steps give M unit vectors a side. For each of the 2M, its twin on the other
    side is the positive and every other vector but itself a negative; the loss is the mean of −log softmax of the
    positive. Averaged over groups, then permutations. Memory grows with M², and linearly with the number of groups
    and permutations.

    Args:
        student: (P, N, T, D), any float type; the cosines are float32, also under autocast.
        teacher: (P, N, T, D). Gradients reach the projector through it.
        lengths: (N,), valid steps of each word, the end included.
        projector: (..., T, D) → (..., T, width).
        temperature: the cosines are divided by this.
        group: images contrasted with one another; the last group may be smaller.
        rows: ``valid_rows`` of these lengths; None: every step has its row, M is group · T.

    Returns: scalar, in nats.
    """
    num_steps = student.shape[2]
    rows = _all_rows(lengths, num_steps, group) if rows is None else rows
    valid = (rows >= 0).repeat(1, 2)  # (groups, 2M)
    # The projector runs in the precision of its surroundings, as the recognizers do; what is compared is float32.
    both = projector(torch.stack([student.float(), teacher.detach().float()], dim=1))
    with torch.autocast(student.device.type, enabled=False):
        picked = both.flatten(2, 3).index_select(2, rows.clamp(min=0).flatten()).float()
        vectors = F.normalize(picked, dim=-1).unflatten(2, rows.shape)  # (P, 2, groups, M, width)
        vectors = vectors.transpose(1, 2).flatten(2, 3)  # (P, groups, 2M, width)

        cosines = vectors @ vectors.transpose(2, 3) / temperature
        positives = torch.linalg.diagonal(cosines, offset=rows.shape[1]).repeat(1, 1, 2)
        itself = torch.eye(cosines.shape[-1], dtype=torch.bool, device=cosines.device)
        others = cosines.masked_fill(itself | ~valid[:, None, :], -math.inf)
        losses = others.logsumexp(dim=-1) - positives
        return ((losses * valid).sum(dim=-1) / valid.sum(dim=-1)).mean()


def _all_rows(lengths: Tensor, num_steps: int, group: int) -> Tensor:
    """As ``valid_rows``, of lengths that only the device knows: the steps that do not count are there, as −1."""
    size = min(group, len(lengths))
    missing = -len(lengths) % size
    valid = torch.arange(num_steps, device=lengths.device) < lengths[:, None]
    steps = torch.arange(valid.numel(), device=lengths.device).view(valid.shape)
    return F.pad(steps.masked_fill(~valid, -1), (0, 0, 0, missing), value=-1).view(-1, size * num_steps)
