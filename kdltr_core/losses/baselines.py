"""Terms of the published baselines DFD, A-SKD, Unified and DLD; ``objective.BASELINES`` says which belongs to which."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from kdltr_core.losses.sequence_targets import sequence_targets
from kdltr_core.recognizers.recognizer import RecognizerOutput

_LEAST = 1e-8


def feature_distance(student: Tensor, teacher: Tensor) -> Tensor:
    """Mean squared difference of the features (Zhu et al. 2019, deep feature distillation for low resolution).

    Args:
        student: (N, C, L), any float type; computed in float32.
        teacher: (N, C, L); no gradient flows into it.

    Returns: scalar, mean over images, channels and positions.
    """
    return (student.float() - teacher.detach().float()).square().mean()


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
        return maps, _valid(maps.shape[1], lengths)
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
    return temperature**2 * _mean_over_steps(divergence, lengths)


def path_likelihood(student: Tensor, teacher: Tensor, num_paths: int = 6) -> Tensor:
    """Minus the log-likelihood that the student gives to the teacher's best decoding paths (Chen et al. 2022, DLD).

    With P̃ of ``sequence_targets``, −Σ_t Σ_k P̃(t, k) log p(t, k) is the mean of −log p(π) over the paths π. Every path
    weighs as much as the teacher believes in it (Kim & Rush 2016, sequence-level distillation); DLD's public code
    weighs them alike, which teaches the predictions that the teacher thinks wrong as well. Its beam search, word by
    word, is replaced by the exact search, and its floor under a path's likelihood, 1e-5, is left out.

    Args:
        student: (P, N, T, C), any float type; computed in float32.
        teacher: (P, N, T, C); no gradient flows into it.
        num_paths: as for ``sequence_targets``.

    Returns: scalar, in nats a word: the sum over the steps of the teacher's best path, then the mean over words and
        permutations.
    """
    log_p = student.float().log_softmax(dim=-1).flatten(0, 1)
    sequence = sequence_targets(teacher.detach().float().softmax(dim=-1).flatten(0, 1), num_paths)
    steps = -(sequence.distribution * log_p).sum(dim=-1)
    return (steps * _valid(steps.shape[1], sequence.length)).sum(dim=1).mean()


def character_hint(student: Tensor, teacher: Tensor, lengths: Tensor) -> Tensor:
    """Mean squared difference of the vectors of every character (Bhunia et al. 2021, character localised hint).

    Args:
        student: semantic vectors (P, N, T, D), any float type; computed in float32.
        teacher: (P, N, T, D); no gradient flows into it.
        lengths: (N,), valid steps of each word, the end included.

    Returns: scalar, mean over the width and a word's valid steps, then over words and permutations.
    """
    return _mean_over_steps((student.float() - teacher.detach().float()).square().mean(dim=-1), lengths)


def affinity(student: Tensor, teacher: Tensor, lengths: Tensor) -> Tensor:
    """How differently the characters of a word resemble one another (Bhunia et al. 2021, affinity distillation).

    The cosines between all pairs of a word's vectors, and their mean squared difference between the two sides. The
    widths of the two sides need not agree.

    Arguments and mean as for ``character_hint``, over the pairs of a word's valid steps.
    """
    valid = _valid(student.shape[-2], lengths)
    pairs = valid[:, :, None] & valid[:, None, :]
    squares = (_cosines(student) - _cosines(teacher.detach())).square()
    return ((squares * pairs).sum(dim=(-2, -1)) / lengths.square()).mean()


def _cosines(vectors: Tensor) -> Tensor:
    with torch.autocast(vectors.device.type, enabled=False):
        unit = F.normalize(vectors.float(), dim=-1)
        return unit @ unit.transpose(-2, -1)


def _valid(num_steps: int, lengths: Tensor) -> Tensor:
    return torch.arange(num_steps, device=lengths.device) < lengths[:, None]


def _mean_over_steps(values: Tensor, lengths: Tensor) -> Tensor:
    """Of values (P, N, T): over a word's valid steps, then over words and permutations."""
    return ((values * _valid(values.shape[-1], lengths)).sum(dim=-1) / lengths).mean()


def _mean_of_valid(values: Tensor, valid: Tensor) -> Tensor:
    return ((values * valid).sum(dim=1) / valid.sum(dim=1)).mean()
