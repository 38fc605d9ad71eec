"""Step logits: the teacher's character distributions, step by step and as they are."""

from __future__ import annotations

import torch
from torch import Tensor


def standardise(logits: Tensor) -> Tensor:
    """Logits (..., C) with mean 0 and standard deviation 1 over the classes (Sun et al. 2024, logit standardisation).

    In float32; logits that are all equal become 0.
    """
    variance, mean = torch.var_mean(logits.float(), dim=-1, keepdim=True, correction=0)
    return (logits.float() - mean) * torch.rsqrt(variance + 1e-7)


def step_logits(student: Tensor, teacher: Tensor, lengths: Tensor, temperature: float) -> Tensor:
    """KL divergence of the student's softened distribution from the teacher's at every valid step, times τ².

    Hinton et al. 2015; the logits' distillation of Bhunia et al. 2021 and of Chen et al. 2022.

    Args:
        student: (P, N, T, C), any float type; computed in float32.
        teacher: (P, N, T, C); no gradient flows into it.
        lengths: (N,), valid steps of each word, the end included.
        temperature: τ of both sides.

    Returns: scalar, in nats: mean over a word's valid steps, then over words and permutations.
    """
    log_p = (student.float() / temperature).log_softmax(dim=-1)
    log_q = (teacher.detach().float() / temperature).log_softmax(dim=-1)
    divergence = (log_q.exp() * (log_q - log_p)).sum(dim=-1)
    return temperature**2 * _mean_of_valid(divergence, lengths)


def decoupled_logits(
    student: Tensor,
    teacher: Tensor,
    targets: Tensor,
    lengths: Tensor,
    temperature: float,
    target_weight: float,
    others_weight: float,
) -> Tensor:
    """The same divergence in two parts with weights of their own (Zhao et al. 2022, decoupled distillation, eq. 7).

    One part is whether it is the label's class or another, the other part how the others share what is left. With
    weights of 1 and of the teacher's probability of the others, they would be ``step_logits``.

    Args:
        student, teacher, lengths, temperature: as for ``step_logits``.
        targets: (N, T + 1) class ids, the begin class first.
        target_weight, others_weight: α and β.

    Returns: scalar, in nats, times τ².
    """
    valid = torch.arange(student.shape[2], device=lengths.device) < lengths[:, None]
    classes = targets[:, 1:].masked_fill(~valid, 0).expand(student.shape[:3])[..., None]
    scaled = [student.float() / temperature, teacher.detach().float() / temperature]
    log_p, log_q = (logits.log_softmax(dim=-1) for logits in scaled)
    own_p, own_q = log_p.gather(-1, classes), log_q.gather(-1, classes)
    # The classes that are not the label's; a large negative number rather than −∞, whose difference would be NaN.
    others = [logits.scatter(-1, classes, -1e4) for logits in scaled]
    rest_p, rest_q = (
        torch.logsumexp(o, -1, True) - torch.logsumexp(s, -1, True) for o, s in zip(others, scaled, strict=True)
    )
    whether = own_q.exp() * (own_q - own_p) + rest_q.exp() * (rest_q - rest_p)
    among_p, among_q = (logits.log_softmax(dim=-1) for logits in others)
    which = (among_q.exp() * (among_q - among_p)).sum(dim=-1)
    return temperature**2 * _mean_of_valid(target_weight * whether.squeeze(-1) + others_weight * which, lengths)


def _mean_of_valid(values: Tensor, lengths: Tensor) -> Tensor:
    valid = torch.arange(values.shape[-1], device=lengths.device) < lengths[:, None]
    return ((values * valid).sum(dim=-1) / lengths).mean()
