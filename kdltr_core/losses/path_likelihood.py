"""Path likelihood: the student is to read as the teacher's best decoding paths do, whole words rather than steps."""

from __future__ import annotations

import torch
from torch import Tensor

from kdltr_core.losses.sequence_targets import sequence_targets


def path_likelihood(student: Tensor, teacher: Tensor, num_paths: int = 6, branching: int = 3) -> Tensor:
    """Minus the log-likelihood that the student gives to the teacher's best paths (Chen et al. 2022, DLD).

    With P̃ of ``sequence_targets``, −Σ_t Σ_k P̃(t, k) log p(t, k) is the mean of −log p(π) over the paths π. Every path
    weighs as much as the teacher believes in it (Kim & Rush 2016, sequence-level distillation); DLD's public code
    weighs them alike, which teaches the readings that the teacher thinks wrong as well. Its beam search, word by word,
    is replaced by the exact search, and its floor under a path's likelihood, 1e-5, is left out.

    Args:
        student: (P, N, T, C), any float type; computed in float32.
        teacher: (P, N, T, C); no gradient flows into it.
        num_paths, branching: as for ``sequence_targets``.

    Returns: scalar, in nats a word: the sum over the steps of the teacher's best path, then the mean over words and
        permutations.
    """
    log_p = student.float().log_softmax(dim=-1).flatten(0, 1)
    sequence = sequence_targets(teacher.detach().float().softmax(dim=-1).flatten(0, 1), num_paths, branching)
    steps = -(sequence.distribution * log_p).sum(dim=-1)
    taught = torch.arange(steps.shape[1], device=steps.device) < sequence.length[:, None]
    return (steps * taught).sum(dim=1).mean()
