"""The workers of a run as one of them sees them, and the batch norms that a skipped step leaves alone."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

import torch
import torch.distributed as dist
from torch import Tensor, nn


@dataclass(frozen=True)
class DistributedContext:
    """Rank, number of workers and device; alone by default.

    Attributes:
        rank: 0 … size - 1.
        size: number of data-parallel workers.
        device: where this worker computes.
    """

    rank: int = 0
    size: int = 1
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))

    @classmethod
    def current(cls) -> DistributedContext:
        """This process, in the process group if there is one; on its GPU if there is one."""
        device = torch.device("cuda", torch.cuda.current_device()) if torch.cuda.is_available() else torch.device("cpu")
        if dist.is_available() and dist.is_initialized():
            return cls(dist.get_rank(), dist.get_world_size(), device)
        return cls(device=device)

    @property
    def is_main(self) -> bool:
        return self.rank == 0

    def all_reduce(self, tensor: Tensor) -> Tensor:
        """Sum over workers, in place."""
        if self.size > 1:
            dist.all_reduce(tensor)
        return tensor

    def any(self, flag: bool) -> bool:
        """Whether any worker's flag is set; waits for the device."""
        return bool(self.all_reduce(torch.tensor(float(flag), device=self.device)) > 0)

    def gather(self, value: Any) -> list[Any]:
        """Every worker's value, by rank, on every worker."""
        if self.size == 1:
            return [value]
        values: list[Any] = [None] * self.size
        dist.all_gather_object(values, value)
        return values

    def barrier(self) -> None:
        if self.size > 1:
            dist.barrier()

    @torch.no_grad()
    def share(self, module: nn.Module) -> None:
        """Give all workers the first one's weights and running statistics."""
        if self.size > 1:
            for tensor in (*module.parameters(), *module.buffers()):
                sent = tensor.contiguous()
                dist.broadcast(sent, 0)
                tensor.copy_(sent)


class RunningStatistics:
    """The running statistics of a module's batch norms, which a forward pass changes whatever comes of the step."""

    def __init__(self, module: nn.Module) -> None:
        buffers = [b for m in module.modules() if isinstance(m, nn.BatchNorm2d) for b in m.buffers()]
        types = dict.fromkeys(b.dtype for b in buffers)
        self._buffers = [[b for b in buffers if b.dtype == dtype] for dtype in types]
        self._before = [_joined(buffers) for buffers in self._buffers]

    def remember(self) -> None:
        for buffers, before in zip(self._buffers, self._before, strict=True):
            _joined(buffers, before)

    def restore_where(self, flag: Tensor | Literal[True]) -> None:
        """Put back what was remembered where the flag, True or a scalar bool on the device, is true."""
        # Joined, because ABINet has 171 of these and a choice for each would be felt at every step.
        for buffers, before in zip(self._buffers, self._before, strict=True):
            kept = before if flag is True else torch.where(flag, before, _joined(buffers))
            parts = kept.split([b.numel() for b in buffers])
            torch._foreach_copy_(buffers, [part.view_as(b) for part, b in zip(parts, buffers, strict=True)])


def _joined(buffers: list[Tensor], into: Tensor | None = None) -> Tensor:
    return torch.cat([b.flatten() for b in buffers], out=into)
