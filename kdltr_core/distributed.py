"""The workers of a run as one of them sees them, and the batch norms that a skipped step leaves alone."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import bf16_compress_hook
from torch.nn.parallel import DistributedDataParallel


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

    def share_buffers(self, module: nn.Module) -> None:
        """Give all workers the first one's buffers, such as running statistics."""
        if self.size > 1:
            for buffer in module.buffers():
                dist.broadcast(buffer, 0)

    def no_sync(self, module: nn.Module, holds: bool) -> AbstractContextManager[None]:
        """Within it the gradients of a wrapped module are added up here, and not averaged over workers yet."""
        return module.no_sync() if holds and isinstance(module, DistributedDataParallel) else nullcontext()

    def wrap(self, module: nn.Module, *, in_bfloat16: bool = False) -> nn.Module:
        """The module with its gradients averaged over workers, travelling as they are or as bfloat16."""
        if self.size == 1:
            return module
        wrapped = DistributedDataParallel(module, device_ids=[self.device] if self.device.type == "cuda" else None)
        if in_bfloat16:
            # torch's hook, which it lets pass with NCCL only where it knows it by name; it runs on any backend.
            wrapped.register_comm_hook(dist.group.WORLD, lambda group, bucket: bf16_compress_hook(group, bucket))
        return wrapped


class RunningStatistics:
    """The running statistics of a module's batch norms, which a forward pass changes whatever comes of the step."""

    def __init__(self, module: nn.Module) -> None:
        buffers = [b for m in module.modules() if isinstance(m, nn.BatchNorm2d) for b in m.buffers()]
        types = dict.fromkeys(b.dtype for b in buffers)
        self._buffers = [[b for b in buffers if b.dtype == dtype] for dtype in types]
        self._before: list[Tensor] = []

    def remember(self) -> None:
        self._before = [_joined(buffers) for buffers in self._buffers]

    def restore_where(self, flag: Tensor | bool) -> None:
        """Put back what was remembered where the flag, a bool or a scalar bool on the device, is true."""
        # Joined, because ABINet has 171 of these and a choice for each would be felt at every step.
        for buffers, before in zip(self._buffers, self._before, strict=True):
            kept = torch.where(torch.as_tensor(flag, device=before.device), before, _joined(buffers))
            parts = kept.split([b.numel() for b in buffers])
            torch._foreach_copy_(buffers, [part.view_as(b) for part, b in zip(parts, buffers, strict=True)])


def _joined(buffers: list[Tensor]) -> Tensor:
    return torch.cat([b.flatten() for b in buffers])
