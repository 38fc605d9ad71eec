"""Sequence-level distributions of a teacher, from its exactly best decoding paths (Guo et al. 2023, supplement E)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

END_ID = 0


@dataclass(frozen=True)
class SequenceTargets:
    """What the best decoding paths say.

    Attributes:
        distribution: (N, T, C), the fraction of the paths' probability that votes for each class at each step.
        length: (N,) int64, steps of the best path, its end included.
        best_probability: (N,), probability of the best path.
    """

    distribution: Tensor
    length: Tensor
    best_probability: Tensor


@torch.no_grad()
def sequence_targets(probs: Tensor, num_paths: int = 6, branching: int = 3) -> SequenceTargets:
    """Votes of the K best decoding paths, by an exact dynamic programme over the steps.

    A path takes one of the ``branching`` most likely classes at every step and ends at the first end class (id 0) or
    after step T; its end class counts into its probability and its length. Paths are ranked by probability / length,
    and the best K vote with their probability P(π): P̃(t, k) = Σ_{π: π_t = k} P(π) / Σ_π P(π). After a path's end it
    votes for the end class.

    The steps are independent, so the K most probable unfinished prefixes of each length are all that can lead to one
    of the K best paths of a given length, and among paths of one length the ranking is that of the probability: the
    best K over all lengths are the exact answer. Works in log space and float32 and never waits for the device.

    Args:
        probs: (N, T, C), each step a distribution, any float type.
        num_paths: K, at least 1. Where fewer paths exist, all of them vote.
        branching: classes tried at every step, at least 1.

    Example: a word of one character, which is the class 1 or the class 2, and then the end.
        >>> targets = sequence_targets(torch.tensor([[[0.0, 0.8, 0.2], [1.0, 0.0, 0.0]]]), branching=2)
        >>> targets.length, targets.distribution[0, 0]
        (tensor([2]), tensor([0.0000, 0.8000, 0.2000]))

    Raises: ValueError if ``num_paths`` or ``branching`` is below 1.
    """
    if num_paths < 1 or branching < 1:
        raise ValueError(f"num_paths is {num_paths} and branching {branching}; both must be at least 1")
    num_words, num_steps, num_classes = probs.shape
    width = min(branching, num_classes)
    top_probs, top_classes = _most_likely(probs.float(), width)
    log_probs = top_probs.log()
    is_end = top_classes == END_ID
    go_on = log_probs.masked_fill(is_end, -math.inf)
    # The last column stands for paths that reach step T without an end: nothing more to pay.
    end = log_probs.masked_fill(~is_end, -math.inf).amax(dim=-1)
    end = torch.cat([end, end.new_zeros(num_words, 1)], dim=1)

    prefix = probs.new_full((num_words, num_paths), -math.inf, dtype=torch.float32)
    prefix[:, 0] = 0.0
    prefixes, moves = [prefix], []
    for to_pay in go_on[:, :, None].unbind(1):
        prefix, move = (prefix[:, :, None] + to_pay).flatten(1).topk(num_paths, dim=1)
        prefixes.append(prefix)
        moves.append(move)

    # (N, T + 1, K): paths of so many characters, then the end.
    finished = torch.stack(prefixes, dim=1) + end[:, :, None]
    num_characters = torch.arange(num_steps + 1, device=probs.device)
    lengths = (num_characters + 1).clamp(max=num_steps)
    rank = finished - lengths.log()[None, :, None]
    chosen = rank.flatten(1).topk(num_paths, dim=1).indices
    path_log_probs = finished.flatten(1).gather(1, chosen)
    path_characters = chosen // num_paths
    classes = _trace_back(torch.stack(moves, dim=1), top_classes, path_characters, chosen % num_paths)

    weights = path_log_probs.softmax(dim=1)
    distribution = probs.new_zeros((num_words, num_steps, num_classes), dtype=torch.float32)
    for path in range(num_paths):
        # One path at a time: two paths may vote for the same class, and the order of their sum must not vary.
        votes = weights[:, path, None, None].expand(-1, num_steps, 1)
        distribution.scatter_add_(2, classes[:, :, path, None], votes)
    return SequenceTargets(
        distribution=distribution,
        length=(path_characters[:, 0] + 1).clamp(max=num_steps),
        best_probability=path_log_probs[:, 0].exp(),
    )


def _most_likely(probs: Tensor, width: int) -> tuple[Tensor, Tensor]:
    """Probabilities and classes (N, T, width) of the most likely classes, the most likely first."""
    rest, values, classes = probs.clone(), [], []
    for _ in range(width):  # on a CPU topk takes twice as long for the few that are asked for
        value, chosen = rest.max(dim=-1, keepdim=True)
        rest.scatter_(-1, chosen, -math.inf)
        values.append(value)
        classes.append(chosen)
    return torch.cat(values, dim=-1), torch.cat(classes, dim=-1)


def _trace_back(moves: Tensor, top_classes: Tensor, num_characters: Tensor, last_slot: Tensor) -> Tensor:
    """Classes (N, T, K) of the paths that stand in ``last_slot`` (N, K) after ``num_characters`` (N, K) steps.

    ``moves`` (N, T, K) is, for each prefix of t + 1 characters, slot of its parent × width + rank of its last class.
    """
    width = top_classes.shape[-1]
    steps = torch.arange(moves.shape[1], device=moves.device)[:, None]
    ended = num_characters[:, None] <= steps
    # Only the slots follow from one another; what stands in them is looked up for all steps at once.
    slot, slots = last_slot, []
    for parents, waits in zip((moves // width).unbind(1)[::-1], ended.unbind(1)[::-1], strict=True):
        slots.append(slot)
        slot = torch.where(waits, last_slot, parents.gather(1, slot))
    ranks = moves.gather(2, torch.stack(slots[::-1], dim=1)) % width
    return top_classes.gather(2, ranks).masked_fill(ended, END_ID)
