"""Every random draw of a run is a function of its seed, the step and the worker: a resumed run needs no saved state."""

from __future__ import annotations

import hashlib

import numpy as np
import torch

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
SPLITMIX64_FACTORS = (0xBF58476D1CE4E5B9, 0x94D049BB133111EB)


def derive(seed: int, *parts: int | str) -> int:
    """A 63-bit seed that differs for every tuple of parts."""
    text = "/".join(str(p) for p in (seed, *parts))
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little") >> 1


def seed_everything(seed: int, *parts: int | str) -> None:
    """Seed torch's generators, of the CPU and of every GPU."""
    torch.manual_seed(derive(seed, *parts))


def generator(seed: int, *parts: int | str) -> torch.Generator:
    """A generator on the CPU of its own."""
    return torch.Generator().manual_seed(derive(seed, *parts))


def splitmix64(states: np.ndarray, number: int = 1) -> np.ndarray:
    """(N,) uint64: what splitmix64 gives as its number-th from each state (N,) uint64."""
    with np.errstate(over="ignore"):
        x = states + np.uint64(number) * _GOLDEN
        for shift, factor in zip((30, 27), SPLITMIX64_FACTORS, strict=True):
            x = (x ^ (x >> np.uint64(shift))) * np.uint64(factor)
    return x ^ (x >> np.uint64(31))
