"""Soft logits: the teacher's character distributions, corrected by its best decoding paths."""

from __future__ import annotations

import torch
from torch import Tensor

from kdltr_core.losses.sequence_targets import sequence_targets

# The student's log-probabilities are clamped at this.
LOG_PROB_FLOOR = -10.0


# As published.
SEQUENCE_THRESHOLD, NUM_PATHS = 0.1, 6


def soft_logits(
    student_logits: Tensor,
    teacher_logits: Tensor,
    temperature: float = 4.0,
    mix: float = 0.2,
    threshold: float = SEQUENCE_THRESHOLD,
    num_paths: int = NUM_PATHS,
) -> Tensor:
    """KL divergence of the student from the teacher's softened and sequence-corrected distributions.

    Guo et al. 2023, soft logits loss and supplement E. The teacher's q = softmax(logits / τ) becomes
    mix · P̃ + (1 − mix) · q where the best path's probability reaches the threshold. There is no factor τ².

    Args:
        student_logits: (P, N, T, C), any float type; computed in float32.
        teacher_logits: (P, N, T, C); no gradient flows into it.
        temperature: τ of both sides.
        mix: fraction of the sequence-level distribution P̃ in the soft target.
        threshold: least probability of the best path for P̃ to be mixed in.
        num_paths: paths that make P̃.

    Returns: scalar, in nats: the mean over the steps up to the end of the teacher's best path, then over words and
        permutations.
    """
    q = (teacher_logits.detach().float() / temperature).softmax(dim=-1).flatten(0, 1)
    log_p = (student_logits.float() / temperature).log_softmax(dim=-1).clamp(min=LOG_PROB_FLOOR).flatten(0, 1)
    sequence = sequence_targets(q, num_paths)
    fraction = mix * (sequence.best_probability >= threshold)
    q = torch.lerp(q, sequence.distribution, fraction[:, None, None])

    divergence = (torch.xlogy(q, q) - q * log_p).sum(dim=-1)
    # The teacher's length, not the label's: past its own end it has nothing to teach.
    taught = torch.arange(q.shape[1], device=q.device) < sequence.length[:, None]
    return ((divergence * taught).sum(dim=1) / sequence.length).mean()
