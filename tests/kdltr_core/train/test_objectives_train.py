"""Every objective trains a student of either kind."""

from __future__ import annotations

from typing import get_args

import pytest
import torch

from kdltr_core.config import ObjectiveConfig, ObjectiveName
from kdltr_core.data.batch import encode_targets
from kdltr_core.recognizers.permutations import sample_permutations
from kdltr_core.train.distiller import Distiller, teach
from tests.kdltr_core.small import STUDENTS, TEACHERS


@pytest.mark.parametrize("family", ["parseq_tiny", "abinet"])
@pytest.mark.parametrize("name", get_args(ObjectiveName))
def test_a_few_steps_lower_the_loss(family: str, name: ObjectiveName) -> None:
    torch.manual_seed(0)
    teacher = TEACHERS[family]().eval().requires_grad_(False)
    config = ObjectiveConfig(name=name)
    distiller = Distiller(STUDENTS[family](), config, teacher).train()
    targets, lengths = encode_targets(["Hello", "a", "plate7", "x"], teacher.charset, teacher.fixed_num_steps)
    permutations = sample_permutations(targets.shape[1] - 2, 2, torch.Generator().manual_seed(0))
    high_res = torch.randint(0, 256, (4, 3, 32, 128), dtype=torch.uint8)
    low_res = torch.nn.functional.avg_pool2d(high_res.float(), 2).to(torch.uint8)
    taught = teach(teacher, high_res, targets, permutations)
    optimiser = torch.optim.Adam(distiller.parameters(), 2e-3)
    losses = []
    for _ in range(8):
        loss = distiller(low_res, targets, lengths, permutations, taught).total
        losses.append(float(loss.detach()))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert losses[-1] < losses[0]
