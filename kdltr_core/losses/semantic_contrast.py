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
) -> Tensor:
    """Contrast of projected semantic vectors (Guo et al. 2023, semantic contrastive loss).

    Within a group of images, the valid steps give M unit vectors a side. For each of the 2M, its twin on the other
    side is the positive and every other vector but itself a negative; the loss is the mean of −log softmax of the
    positive. Averaged over groups, then permutations. Memory grows with the square of a group's steps (valid or
    not), and linearly with the number of groups and permutations.

    Args:
        student: (P, N, T, D), any float type; the cosines are float32, also under autocast.
        teacher: (P, N, T, D). Gradients reach the projector through it.
        lengths: (N,), valid steps of each word, the end included.
        projector: (..., T, D) → (..., T, width).
        temperature: the cosines are divided by this.
        group: images contrasted with one another; the last group may be smaller.

    Returns: scalar, in nats.
    """
    _, num_images, num_steps, _ = student.shape
    # The projector runs in the precision of its surroundings, as the recognizers do; what is compared is float32.
    both = projector(torch.stack([student.float(), teacher.detach().float()], dim=1)).float()
    with torch.autocast(student.device.type, enabled=False):
        vectors = F.normalize(both, dim=-1)  # (P, 2, N, T, width)

        size = min(group, num_images)
        num_groups = math.ceil(num_images / size)
        missing = num_groups * size - num_images
        vectors = F.pad(vectors, (0, 0, 0, 0, 0, missing)).unflatten(2, (num_groups, size))
        vectors = vectors.permute(0, 2, 1, 3, 4, 5).flatten(2, 4)  # (P, groups, 2M, width)
        valid = torch.arange(num_steps, device=lengths.device) < F.pad(lengths, (0, missing))[:, None]
        valid = valid.view(num_groups, size * num_steps).repeat(1, 2)

        cosines = vectors @ vectors.transpose(2, 3) / temperature
        positives = torch.linalg.diagonal(cosines, offset=size * num_steps).repeat(1, 1, 2)
        itself = torch.eye(cosines.shape[-1], dtype=torch.bool, device=cosines.device)
        others = cosines.masked_fill(itself | ~valid[:, None, :], -math.inf)
        losses = others.logsumexp(dim=-1) - positives
        return ((losses * valid).sum(dim=-1) / valid.sum(dim=-1)).mean()
