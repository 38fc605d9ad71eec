"""The optimiser of the published runs, its schedule, and the student's moving average."""

from __future__ import annotations

import copy
import math

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

from kdltr_core.config import OptimConfig

BETA2 = 0.999
# Of the step schedule.
DECAY_FACTOR = 0.1


def build_optimiser(distiller: nn.Module, config: OptimConfig) -> torch.optim.Adam:
    """Adam with two groups: the student, and what starts from nothing or nearly so (patch embedding, projections)."""
    fast: list[nn.Parameter] = []
    slow: list[nn.Parameter] = []
    for name, parameter in distiller.named_parameters():
        if parameter.requires_grad:
            (fast if "patch_embed" in name or not name.startswith("student.") else slow).append(parameter)
    device = next(distiller.parameters()).device
    on_gpu = device.type == "cuda"
    # As tensors, so that a captured step sees them change; the kernels of a GPU take them in float32 only.
    kind = torch.float32 if on_gpu else torch.float64
    groups = [
        {"params": parameters, "lr": torch.tensor(rate, dtype=kind, device=device), "full_rate": rate}
        for parameters, rate in ((slow, config.learning_rate), (fast, config.fast_learning_rate))
    ]
    # Fused: one kernel for all weights, and it can leave them alone where the gradient is not finite.
    return torch.optim.Adam(groups, betas=(config.beta1, BETA2), fused=True, capturable=on_gpu)


def rate_factor(config: OptimConfig, step: int, num_steps: int, steps_per_epoch: float) -> float:
    """What the learning rates are multiplied by at a step (from 0), of a run of num_steps."""
    warm = min(1.0, (step + 1) / config.warmup_steps) if config.warmup_steps else 1.0
    if config.schedule == "constant":
        return warm
    if config.schedule == "cosine":
        return warm * 0.5 * (1 + math.cos(math.pi * min(1.0, step / max(num_steps, 1))))
    return warm * DECAY_FACTOR ** int(step / (config.decay_epochs * steps_per_epoch))


def set_rates(optimiser: torch.optim.Optimizer, factor: float) -> None:
    for group in optimiser.param_groups:
        group["lr"].fill_(group["full_rate"] * factor)


class Gradients:
    """The gradients of a module's trainable parameters, in one piece of memory that never moves.

    Attributes:
        joined: (number of weights,) float32; each parameter's ``grad`` is a view into it.
    """

    def __init__(self, module: nn.Module) -> None:
        self._parameters = [p for p in module.parameters() if p.requires_grad]
        sizes = [p.numel() for p in self._parameters]
        self.joined = torch.zeros(sum(sizes), device=self._parameters[0].device)
        self._pieces = self.joined.split(sizes)
        for parameter, piece in zip(self._parameters, self._pieces, strict=True):
            parameter.grad = piece.as_strided(parameter.shape, parameter.stride(), piece.storage_offset())

    def add(self, loss: Tensor) -> None:
        """Those of a scalar that every one of the parameters has a part in."""
        found = torch.autograd.grad(loss, self._parameters)
        # In the order of each parameter's memory, in which all are as long rows: one kernel for many of them.
        rows = [_in_order_of(p, gradient) for p, gradient in zip(self._parameters, found, strict=True)]
        torch._foreach_add_(self._pieces, rows)


def _in_order_of(parameter: Tensor, gradient: Tensor) -> Tensor:
    order = sorted(range(parameter.dim()), key=parameter.stride, reverse=True)
    return gradient.permute(order).reshape(-1)


class MovingAverage:
    """Exponential moving average of a student's weights and running statistics, from its first weights on.

    Attributes:
        module: the averaged student.
    """

    def __init__(self, student: nn.Module, decay: float) -> None:
        self.module = copy.deepcopy(student)
        self._blend = get_ema_multi_avg_fn(decay)
        pairs = list(zip(_values(self.module), _values(student), strict=True))
        kinds = dict.fromkeys(value.dtype for value, _ in pairs)
        self._groups = [list(zip(*(pair for pair in pairs if pair[0].dtype == kind), strict=True)) for kind in kinds]

    def update(self) -> None:
        """Move it towards the student as it is now."""
        for averaged, current in self._groups:
            self._blend(averaged, current, 0)


def _values(module: nn.Module) -> list[Tensor]:
    return [*(p.detach() for p in module.parameters()), *module.buffers()]
