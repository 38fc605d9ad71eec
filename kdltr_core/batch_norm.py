"""Batch normalisation over all workers, and running statistics that a spoilt step leaves alone.

By default every share of the batch is normalised by itself, as in the published runs, and the first share's running
statistics are everybody's. Synchronised, the statistics are those of the joined batch.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn


class _SumOverWorkers(torch.autograd.Function):
    """Every worker's share of a sum counts in every worker's loss, so the gradients are summed as well."""

    @staticmethod
    def forward(ctx: Any, share: Tensor) -> Tensor:
        total = share.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        total = gradient.clone()
        dist.all_reduce(total)
        return total


class SynchronisedBatchNorm(nn.BatchNorm2d):
    """Batch normalisation whose mean and variance are those of all workers' batches; torch's own runs on GPUs only."""

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or not dist.is_initialized():
            return super().forward(x)
        assert self.running_mean is not None
        assert self.running_var is not None
        assert self.num_batches_tracked is not None
        wide = x.float()
        per_channel = (0, 2, 3)
        local = torch.cat([wide.sum(per_channel), wide.new_tensor([x.numel() / x.shape[1]])])
        total = _SumOverWorkers.apply(local)
        count = total[-1].detach()
        mean = total[:-1] / count
        centred = wide - mean[:, None, None]
        variance = _SumOverWorkers.apply(centred.square().sum(per_channel)) / count
        with torch.no_grad():
            self.num_batches_tracked += 1
            self.running_mean.lerp_(mean, self.momentum or 0.1)
            self.running_var.lerp_(variance * count / (count - 1), self.momentum or 0.1)
        scale = self.weight * torch.rsqrt(variance + self.eps)
        return (centred * scale[:, None, None] + self.bias[:, None, None]).to(x.dtype)


def synchronise_batch_norm(module: nn.Module, device: torch.device) -> None:
    """Make every batch norm of a module take its statistics from all workers; its state dict stays the same."""
    for parent in list(module.modules()):
        for name, child in list(parent.named_children()):
            if type(child) is nn.BatchNorm2d:
                setattr(parent, name, _synchronised(child, device))


def _synchronised(norm: nn.BatchNorm2d, device: torch.device) -> nn.Module:
    if device.type == "cuda":
        return nn.SyncBatchNorm.convert_sync_batchnorm(norm)
    fresh = SynchronisedBatchNorm(norm.num_features, norm.eps, norm.momentum)
    fresh.load_state_dict(norm.state_dict())
    return fresh.to(device).train(norm.training)


class RunningStatistics:
    """The running statistics of a module's batch norms, which a forward pass changes whatever comes of the step."""

    def __init__(self, module: nn.Module) -> None:
        kinds = (nn.BatchNorm2d, nn.SyncBatchNorm)
        buffers = [b for m in module.modules() if isinstance(m, kinds) for b in m.buffers()]
        types = dict.fromkeys(b.dtype for b in buffers)
        self._buffers = [[b for b in buffers if b.dtype == dtype] for dtype in types]
        self._before: list[Tensor] = []

    def remember(self) -> None:
        self._before = [_joined(buffers) for buffers in self._buffers]

    def restore_where(self, spoilt: Tensor | bool) -> None:
        """Put back what was remembered where ``spoilt``, a bool or a scalar bool on the device, is true."""
        # Joined, because ABINet has 171 of these and a choice for each would be felt at every step.
        for buffers, before in zip(self._buffers, self._before, strict=True):
            kept = torch.where(torch.as_tensor(spoilt, device=before.device), before, _joined(buffers))
            parts = kept.split([b.numel() for b in buffers])
            torch._foreach_copy_(buffers, [part.view_as(b) for part, b in zip(parts, buffers, strict=True)])


def _joined(buffers: list[Tensor]) -> Tensor:
    return torch.cat([b.flatten() for b in buffers])
