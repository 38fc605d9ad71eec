"""Permutations of the decoding order, and the masks that follow from them (Bautista & Atienza 2022, section 3.3)."""

from __future__ import annotations

import itertools
import math

import torch
from torch import Tensor


def sample_permutations(num_characters: int, num_permutations: int, generator: torch.Generator) -> Tensor:
    """Decoding orders: left to right, right to left, then random ones, each with its mirror image.

    Args:
        num_characters: of the longest word of the batch, at least 1.
        num_permutations: how many, mirrored ones counted; words too short for so many orders get all there are.
        generator: on the CPU.

    Returns: (P, num_characters + 2) int64; position 0 is the begin token, the last number the end token.
    """
    characters = torch.arange(1, num_characters + 1)
    if num_characters == 1:
        orders = characters[None]
    else:
        num_pairs = min((num_permutations + 1) // 2, math.factorial(num_characters) // 2)
        if num_characters <= 4:
            # Half of all orders, so that no order is another's mirror image; the first is left to right.
            pool = [p for p in itertools.permutations(range(1, num_characters + 1)) if p[0] < p[-1]]
            picked = 1 + torch.randperm(len(pool) - 1, generator=generator)[: num_pairs - 1]
            forward = torch.tensor([pool[0], *(pool[int(i)] for i in picked)])
        else:
            random = [torch.randperm(num_characters, generator=generator) + 1 for _ in range(num_pairs - 1)]
            forward = torch.stack([characters, *random])
        orders = torch.stack([forward, forward.flip(-1)], dim=1).flatten(0, 1)
    begin = torch.zeros(len(orders), 1, dtype=torch.int64)
    end = torch.full((len(orders), 1), num_characters + 1, dtype=torch.int64)
    permutations = torch.cat([begin, orders, end], dim=1)
    if len(permutations) > 1:
        # Right to left begins with the end token: how long the word is comes first.
        permutations[1, 1:] = torch.arange(num_characters + 1, 0, -1)
    return permutations[:num_permutations]


def query_masks(permutations: Tensor) -> Tensor:
    """Where a query may attend: the positions that come before its own in the permutation.

    Args:
        permutations: (P, T + 1).

    Returns: (P, T, T) bool: output step t (position t + 1) by input position, True where it may attend.
    """
    rank = permutations.argsort(dim=1)
    return rank[:, None, :-1] < rank[:, 1:, None]
