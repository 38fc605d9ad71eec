"""Visual focus: the student's feature maps, compared where the teacher attends."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def focus_mask(attention: Tensor, lengths: Tensor) -> Tensor:
    """Where the teacher attends while it reads the word: the maximum of its attention over valid steps.

    Args:
        attention: (N, T, L), each step a distribution over positions.
        lengths: (N,), valid steps of each word, the end included.

    Returns: (N, 1, L) float32, in [0, 1].
    """
    valid = torch.arange(attention.shape[1], device=attention.device) < lengths[:, None]
    return (attention.float() * valid[:, :, None]).amax(dim=1, keepdim=True)


def visual_focus(student: Tensor, teacher: Tensor, mask: Tensor | None = None, epsilon: float = 1e-8) -> Tensor:
    """One minus the cosine between standardised channels, weighted by the focus mask (Guo et al. 2023, visual focus).

    Args:
        student: (N, C, L), any float type; computed in float32.
        teacher: (N, C, L); no gradient flows into it.
        mask: (N, 1, L), weights of the positions; None: all 1.
        epsilon: a channel whose variance over L is not above this, on either side, is dead: it has no direction to
            compare, counts as cosine 0 and passes no gradient.

    Returns: scalar in [0, 2], mean over images and channels.
    """
    student, teacher = student.float(), teacher.detach().float()
    alive = (student.detach().var(dim=-1) > epsilon) & (teacher.var(dim=-1) > epsilon)
    # Replaced before the division, because a gradient of 1 / std would be huge here and make the whole step useless.
    student = _standardise(torch.where(alive[..., None], student, 0.0), epsilon)
    teacher = _standardise(torch.where(alive[..., None], teacher, 0.0), epsilon)
    if mask is not None:
        student, teacher = student * mask.detach().float(), teacher * mask.detach().float()
    return (1.0 - F.cosine_similarity(student, teacher, dim=-1)).mean()


def _standardise(channels: Tensor, epsilon: float) -> Tensor:
    variance, mean = torch.var_mean(channels, dim=-1, keepdim=True)
    return (channels - mean) * torch.rsqrt(variance + epsilon)
