"""The optimiser of the published runs, its schedule, and the student's moving average."""

from __future__ import annotations

import math

import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

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
    groups = [
        {"params": parameters, "lr": rate, "full_rate": rate}
        for parameters, rate in ((slow, config.learning_rate), (fast, config.fast_learning_rate))
    ]
    # Fused: one kernel for all weights, and it can leave them alone where the gradient is not finite.
    return torch.optim.Adam(groups, betas=(config.beta1, BETA2), fused=True)


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
        group["lr"] = group["full_rate"] * factor


def moving_average(student: nn.Module, decay: float) -> AveragedModel:
    """Exponential moving average of a student's weights and running statistics, from its first weights on."""
    average = AveragedModel(student, multi_avg_fn=get_ema_multi_avg_fn(decay), use_buffers=True)
    average.update_parameters(student)  # torch's first update is the copy that the average begins with
    return average
