"""Where a recognizer looks, and two measures of how differently teacher and student look."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from kdltr_core.recognizers.output import RecognizerOutput

_LEAST = 1e-8


def attention_maps(output: RecognizerOutput, lengths: Tensor) -> tuple[Tensor, Tensor]:
    """Maps of attention, and which of them count.

    The attention of every step, where the family has one. PARSeq has none: there it is a single map, the activation
    of the visual features, their squares averaged over the channels (Zagoruyko & Komodakis 2017) and made to sum to 1.

    Args:
        output: of a training forward.
        lengths: (N,), valid steps of each word, the end included.

    Returns: float32 (N, S, L), each a distribution over the positions, and bool (N, S).
    """
    if output.attention is not None:
        maps = output.attention.float()
        return maps, torch.arange(maps.shape[1], device=maps.device) < lengths[:, None]
    energy = output.visual.float().square().mean(dim=1, keepdim=True)
    maps = energy / energy.sum(dim=-1, keepdim=True).clamp(min=_LEAST)
    return maps, torch.ones(maps.shape[:2], dtype=torch.bool, device=maps.device)


def attention_similarity(student: Tensor, teacher: Tensor, valid: Tensor) -> Tensor:
    """One minus the cosine of the maps (Shin et al. 2022, A-SKD).

    There the maps are those of attention modules added to a CNN; here they are the recognizer's own.

    Args:
        student: (N, S, L).
        teacher: (N, S, L); no gradient flows into it.
        valid: (N, S) bool; every image has at least one map that counts.

    Returns: scalar in [0, 1] for maps without negative values: mean over an image's maps, then over images.
    """
    return _mean_of_valid(1 - F.cosine_similarity(student, teacher.detach(), dim=-1), valid)


def attention_divergence(student: Tensor, teacher: Tensor, valid: Tensor) -> Tensor:
    """KL divergence of the student's maps from the teacher's (Bhunia et al. 2021, attention distillation).

    Arguments and mean as for ``attention_similarity``; in nats.
    """
    teacher = teacher.detach()
    divergence = (torch.xlogy(teacher, teacher) - teacher * student.clamp(min=_LEAST).log()).sum(dim=-1)
    return _mean_of_valid(divergence, valid)


def _mean_of_valid(values: Tensor, valid: Tensor) -> Tensor:
    return ((values * valid).sum(dim=1) / valid.sum(dim=1)).mean()
