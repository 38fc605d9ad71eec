"""Cross entropy over valid steps."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from kdltr_core.charset import Charset36
from kdltr_core.data.batch import encode_targets
from kdltr_core.losses.recognition import recognition


def batch(seed: int) -> tuple[Tensor, Tensor, Tensor]:
    targets, lengths = encode_targets(["a", "word", "it", "abcdefg"], Charset36)
    logits = torch.randn(3, 4, 8, 37, generator=torch.Generator().manual_seed(seed))
    return logits, targets, lengths


def test_mean_of_torch_cross_entropy_over_valid_steps_and_permutations():
    logits, targets, lengths = batch(0)
    chosen = [(p, n, t) for p in range(3) for n, length in enumerate(lengths.tolist()) for t in range(length)]
    expected = F.cross_entropy(
        torch.stack([logits[at] for at in chosen]), torch.stack([targets[n, t + 1] for _, n, t in chosen])
    )
    torch.testing.assert_close(recognition(logits, targets, lengths), expected)


def test_workers_that_average_with_the_joined_count_equal_the_joined_batch():
    logits, targets, lengths = batch(1)
    share = lengths.sum() / 2
    halves = [recognition(logits[:, n], targets[n], lengths[n], share) for n in (slice(0, 2), slice(2, 4))]
    torch.testing.assert_close(torch.stack(halves).mean(), recognition(logits, targets, lengths))


def test_a_weighted_word_counts_as_so_many_and_the_others_as_before():
    logits, targets, lengths = batch(1)
    weights = torch.tensor([1.0, 0.25, 0.0, 2.0])
    alone = [recognition(logits[:, n : n + 1], targets[n : n + 1], lengths[n : n + 1], lengths.sum()) for n in range(4)]
    expected = (weights * torch.stack(alone)).sum()
    torch.testing.assert_close(recognition(logits, targets, lengths, weights=weights), expected)


def test_no_gradient_reaches_steps_after_the_end():
    logits, targets, lengths = batch(2)
    logits.requires_grad_()
    recognition(logits, targets, lengths).backward()
    reached = logits.grad.abs().sum(-1) > 0
    torch.testing.assert_close(reached, (torch.arange(8) < lengths[:, None]).expand(3, -1, -1))
