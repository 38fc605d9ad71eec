"""Every random draw of a run is a function of its seed, the step and the worker: a resumed run needs no saved state."""

from __future__ import annotations

import hashlib

import torch


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
