"""What one trial has freed and the next, in the same process, would otherwise come on top of."""

from __future__ import annotations

import ctypes
import gc

import torch


def give_back_memory() -> None:
    """To the system, and to others on the GPU: what this process holds and does not use.

    A trial runs in a thread of its own. In a process with as many threads as Ray's has, the C library of Linux gives
    most trials another heap than the one before, and gives a heap back from its end only: each keeps the most that a
    trial ever took.
    """
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc's; others give back by themselves
    if trim is not None:
        trim(0)
