"""Character vectors: what student and teacher hold of each character, compared directly and in pairs."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def character_hint(student: Tensor, teacher: Tensor, lengths: Tensor) -> Tensor:
    """Mean squared difference of the vectors of every character (Bhunia et al. 2021, character localised hint).

    Args:
        student: semantic vectors (P, N, T, D), any float type; computed in float32.
        teacher: (P, N, T, D); no gradient flows into it.
        lengths: (N,), valid steps of each word, the end included.

    Returns: scalar, mean over the width and a word's valid steps, then over words and permutations.
    """
    valid = _valid(student, lengths)
    squares = (student.float() - teacher.detach().float()).square().mean(dim=-1)
    return ((squares * valid).sum(dim=-1) / lengths).mean()


def affinity(student: Tensor, teacher: Tensor, lengths: Tensor) -> Tensor:
    """How differently the characters of a word resemble one another (Bhunia et al. 2021, affinity distillation).

    The cosines between all pairs of a word's vectors, and their mean squared difference between the two sides. The
    widths of the two sides need not agree.

    Arguments and mean as for ``character_hint``, over the pairs of a word's valid steps.
    """
    valid = _valid(student, lengths)
    pairs = valid[:, :, None] & valid[:, None, :]
    squares = (_cosines(student) - _cosines(teacher.detach())).square()
    return ((squares * pairs).sum(dim=(-2, -1)) / lengths.square()).mean()


def _cosines(vectors: Tensor) -> Tensor:
    with torch.autocast(vectors.device.type, enabled=False):
        unit = F.normalize(vectors.float(), dim=-1)
        return unit @ unit.transpose(-2, -1)


def _valid(vectors: Tensor, lengths: Tensor) -> Tensor:
    return torch.arange(vectors.shape[-2], device=lengths.device) < lengths[:, None]
