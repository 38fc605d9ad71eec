"""Schedule and groups of the optimiser, against their formulas."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from kdltr_core.config import ObjectiveConfig, OptimConfig
from kdltr_core.train.distiller import Distiller
from kdltr_core.train.optim import MovingAverage, build_optimiser, rate_factor
from tests.kdltr_core.small import STUDENTS


@pytest.mark.parametrize(
    ("schedule", "warmup", "step", "factor"),
    [
        ("constant", 0, 999, 1.0),
        ("constant", 10, 4, 0.5),
        ("step", 0, 249, 1.0),  # 25 epochs of 10 steps
        ("step", 0, 250, 0.1),
        ("step", 0, 500, 0.01),
        ("cosine", 0, 0, 1.0),
        ("cosine", 0, 500, 0.5),
        ("cosine", 0, 1000, 0.0),
        ("cosine", 10, 0, 0.1),
        ("cosine", 0, 250, 0.5 + math.sqrt(0.125)),
    ],
)
def test_rate_follows_the_schedule(schedule: str, warmup: int, step: int, factor: float) -> None:
    config = OptimConfig.model_validate({"schedule": schedule, "warmup_steps": warmup})
    assert rate_factor(config, step, num_steps=1000, steps_per_epoch=10) == pytest.approx(factor, abs=1e-12)


def test_patch_embedding_and_projector_learn_at_the_fast_rate_and_nothing_else() -> None:
    distiller = Distiller(STUDENTS["parseq_tiny"](), ObjectiveConfig())
    slow, fast = build_optimiser(distiller, OptimConfig()).param_groups
    names = {id(p): n for n, p in distiller.named_parameters()}
    fast_names = {names[id(p)] for p in fast["params"]}
    assert fast_names == {n for n in names.values() if "patch_embed" in n or "projector" in n}
    assert len(slow["params"]) + len(fast["params"]) == len(names)
    assert (slow["lr"], fast["lr"]) == (5e-5, 1e-4)


def test_moving_average_is_the_geometric_sum_from_the_first_weights_on() -> None:
    module = nn.Linear(1, 1, bias=False)
    nn.init.constant_(module.weight, 3.0)
    average, expected = MovingAverage(module, decay=0.9), 3.0
    for value in (1.0, 5.0, -2.0):
        nn.init.constant_(module.weight, value)
        average.update()
        expected = 0.9 * expected + 0.1 * value
    assert torch.allclose(average.module.weight, torch.tensor([[expected]]))
