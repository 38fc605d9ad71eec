"""Attention in bfloat16 keeps what float32 sees."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from kdltr_core.recognizers.layers import unmasked_attention


def test_what_all_keys_have_in_common_costs_no_digits():
    """Scores of a few hundred that differ by less than one: bfloat16 holds such numbers to the nearest 2."""
    generator = torch.Generator().manual_seed(0)
    sides = [torch.randn(2, 3, 16, 8, generator=generator) for _ in range(4)]
    sides[0] += 8.0
    sides[1] = 0.2 * sides[1] + 16.0
    queries, keys, values, direction = (side.bfloat16() for side in sides)
    gradients = {}
    for kind in (torch.float32, torch.bfloat16):
        inputs = [side.to(kind).requires_grad_() for side in (queries, keys, values)]
        (unmasked_attention(*inputs) * direction.to(kind)).sum().backward()
        gradients[kind] = [side.grad for side in inputs]
    for exact, rounded in zip(gradients[torch.float32], gradients[torch.bfloat16], strict=True):
        assert exact is not None
        assert rounded is not None
        assert F.cosine_similarity(exact.flatten(), rounded.float().flatten(), dim=0) > 0.99
