"""The trainable module: what it holds, and that every objective trains it."""

from __future__ import annotations

from typing import get_args

import pytest
import torch

from kdltr_core.config import ObjectiveConfig, ObjectiveName
from kdltr_core.data.batch import encode_targets
from kdltr_core.device import autocast
from kdltr_core.recognizers.parseq import Parseq, ParseqSize
from kdltr_core.recognizers.permutations import sample_permutations
from kdltr_core.train.distiller import Distiller, needs_teacher, teach
from tests.kdltr_core.small import STUDENTS, TEACHERS

SIZE = ParseqSize(dim=32, depth=1, encoder_heads=2, decoder_heads=4)


def test_the_teacher_is_not_part_of_what_is_trained_or_saved() -> None:
    distiller = Distiller(Parseq((16, 64), (2, 4), SIZE), ObjectiveConfig())
    assert {name.split(".")[0] for name in distiller.state_dict()} == {"student", "projector"}


@pytest.mark.parametrize(
    ("fields", "has_projector", "has_teacher"),
    [
        ({}, True, True),
        ({"semantic_contrast": 0}, False, True),
        *(({"name": name}, False, name != "supervised") for name in ("supervised", "dfd", "a_skd", "unified", "dld")),
        ({"visual_focus": 0, "semantic_contrast": 0, "soft_logits": 0}, False, False),
    ],
)
def test_a_term_without_weight_costs_nothing(fields: dict[str, object], has_projector: bool, has_teacher: bool) -> None:
    config = ObjectiveConfig.model_validate(fields)
    assert (Distiller(Parseq((16, 64), (2, 4), SIZE), config).projector is not None) == has_projector
    assert needs_teacher(config) == has_teacher


def test_float32_is_float32_whatever_the_machine() -> None:
    with autocast(torch.device("cpu"), "float32"):
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == torch.float32
    with autocast(torch.device("cpu"), "bfloat16"):
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == torch.bfloat16


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
