"""The optimiser of the published runs, its schedule, and the student's moving average."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from kdltr_core.config import OptimConfig


def build_optimiser(distiller: nn.Module, config: OptimConfig) -> torch.optim.Adam:
    """Adam with two groups: the student, and what starts from nothing or nearly so (patch embedding, projections)."""
    fast: list[nn.Parameter] = []
    slow: list[nn.Parameter] = []
    for name, parameter in distiller.named_parameters():
        if parameter.requires_grad:
            (fast if "patch_embed" in name or not name.startswith("student.") else slow).append(parameter)
    groups = [{"params": slow, "lr": config.learning_rate}, {"params": fast, "lr": config.fast_learning_rate}]
    # Fused: one kernel for all weights, and it can leave them alone where the gradient is not finite.
    optimiser = torch.optim.Adam(groups, betas=(config.beta1, config.beta2), fused=True)
    set_full_rates(optimiser, config)
    return optimiser


def set_full_rates(optimiser: torch.optim.Optimizer, config: OptimConfig) -> None:
    """The rates that ``set_rates`` multiplies, of an optimiser of ``build_optimiser``."""
    rates = (config.learning_rate, config.fast_learning_rate)
    for group, rate in zip(optimiser.param_groups, rates, strict=True):
        group["full_rate"] = rate


def rate_factor(config: OptimConfig, step: int, num_steps: int, steps_per_epoch: float) -> float:
    """What the learning rates are multiplied by at a step (from 0), of a run of num_steps."""
    warm = min(1.0, (step + 1) / config.warmup_steps) if config.warmup_steps else 1.0
    if config.schedule == "constant":
        return warm
    if config.schedule == "cosine":
        return warm * 0.5 * (1 + math.cos(math.pi * min(1.0, step / max(num_steps, 1))))
    return warm * config.decay_factor ** int(step / (config.decay_epochs * steps_per_epoch))


def set_rates(optimiser: torch.optim.Optimizer, factor: float) -> None:
    for group in optimiser.param_groups:
        group["lr"] = group["full_rate"] * factor


class MovingAverage:
    """Exponential moving average of a module's weights, in float32."""

    def __init__(self, module: nn.Module, decay: float) -> None:
        self.decay = decay
        self.state = {k: v.detach().clone().float() for k, v in module.state_dict().items()}

    @torch.no_grad()
    def update(self, module: nn.Module) -> None:
        current = module.state_dict()
        keys = list(self.state)
        torch._foreach_lerp_([self.state[k] for k in keys], [current[k].float() for k in keys], 1 - self.decay)

    def load(self, state: Mapping[str, Tensor]) -> None:
        for key, value in state.items():
            self.state[key].copy_(value)
