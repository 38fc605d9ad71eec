"""What all workers of a run agree on at every step, without waiting for their devices."""

from __future__ import annotations

import time

import torch
from torch import Tensor

from kdltr_core.distributed import DistributedContext


class Agreement:
    """A sum over workers in every step, and timers that ring on all workers at the same step.

    The first worker's clock counts. That a timer rings is known one step late: by then the sum of the step before
    has long been made, and reading it makes nobody wait.

    Args:
        periods: seconds from ring to ring, by name; 0: never.
    """

    def __init__(self, world: DistributedContext, periods: dict[str, float]) -> None:
        self._world = world
        self._periods = {name: seconds for name, seconds in periods.items() if seconds > 0}
        self._last = dict.fromkeys(self._periods, time.monotonic())
        self._pending: tuple[Tensor, torch.cuda.Event | None] | None = None

    def exchange(self, value: Tensor) -> tuple[Tensor, frozenset[str]]:
        """The sum over workers of a scalar, and the timers that rang at the step before."""
        rings = self._read_pending()
        for name in rings:
            self._last[name] = time.monotonic()
        now = time.monotonic()
        due = [self._world.is_main and now - self._last[name] >= self._periods[name] for name in self._periods]
        packed = torch.cat([value.float().view(1), torch.tensor(due, dtype=torch.float32).to(value.device)])
        packed = self._world.all_reduce(packed)
        self._send(packed[1:])
        return packed[0], rings

    def _send(self, flags: Tensor) -> None:
        if not flags.is_cuda:
            self._pending = flags, None
            return
        host = torch.empty(flags.shape, dtype=flags.dtype, pin_memory=True)
        host.copy_(flags, non_blocking=True)
        arrived = torch.cuda.Event()
        arrived.record()
        self._pending = host, arrived

    def _read_pending(self) -> frozenset[str]:
        if self._pending is None:
            return frozenset()
        flags, arrived = self._pending
        if arrived is not None:
            arrived.synchronize()
        return frozenset(name for name, flag in zip(self._periods, flags.tolist(), strict=True) if flag)
