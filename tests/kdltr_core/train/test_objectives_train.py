"""Every objective, and every option of ours, trains a student of either kind."""

from __future__ import annotations

import pytest
import torch

from kdltr_core.config import ObjectiveConfig
from kdltr_core.data.batch import encode_targets
from kdltr_core.recognizers.permutations import sample_permutations
from kdltr_core.train.distiller import Distiller, Rotation, teach
from tests.kdltr_core.small import STUDENTS, TEACHERS

SMALL = {"projector_width": 8}
CONFIGS: dict[str, dict[str, object]] = {
    **{name: {"name": name} for name in ("supervised", "dfd", "a_skd", "unified", "dld")},
    "distillation": {},
    "decoupled": {"soft_form": "decoupled"},
    "standardised": {"logit_standardisation": "on", "soft_temperature": 1.0},
    "orthogonal": {"visual_projection": "orthogonal"},
}


@pytest.mark.parametrize("family", ["parseq_tiny", "abinet"])
@pytest.mark.parametrize("name", CONFIGS)
def test_a_few_steps_lower_the_loss(family: str, name: str) -> None:
    torch.manual_seed(0)
    teacher = TEACHERS[family]().eval().requires_grad_(False)
    config = ObjectiveConfig.model_validate({**SMALL, **CONFIGS[name]})
    distiller = Distiller(STUDENTS[family](), config, teacher).train()
    targets, lengths = encode_targets(["Hello", "a", "plate7", "x"], teacher.charset, teacher.fixed_num_steps)
    permutations = sample_permutations(targets.shape[1] - 2, 2, torch.Generator().manual_seed(0))
    high_res = torch.randint(0, 256, (4, 3, 32, 128), dtype=torch.uint8)
    low_res = torch.nn.functional.avg_pool2d(high_res.float(), 2).to(torch.uint8)
    lesson = teach(teacher, high_res, targets, permutations)
    optimiser = torch.optim.Adam(distiller.parameters(), 2e-3)
    losses = []
    for _ in range(8):
        loss = distiller(low_res, targets, lengths, permutations, lesson).total
        losses.append(float(loss.detach()))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert losses[-1] < losses[0]


def test_a_rotation_begins_as_the_identity_and_stays_one_while_it_is_trained() -> None:
    torch.manual_seed(0)
    rotation = Rotation(6, 6)
    features = torch.randn(2, 6, 5)
    torch.testing.assert_close(rotation(features), features)
    optimiser = torch.optim.Adam(rotation.parameters(), 0.1)
    wanted = torch.randn(2, 6, 5)
    for _ in range(5):
        optimiser.zero_grad()
        (rotation(features) - wanted).square().mean().backward()
        optimiser.step()
    matrix = rotation.linear.weight
    torch.testing.assert_close(matrix @ matrix.T, torch.eye(6), atol=1e-5, rtol=0)
    assert (matrix - torch.eye(6)).abs().max() > 0.05


def test_rotations_to_another_width_keep_lengths_or_project() -> None:
    features = torch.randn(2, 4, 5)
    torch.testing.assert_close(Rotation(4, 7)(features).norm(dim=1), features.norm(dim=1))
    assert Rotation(7, 4)(torch.randn(2, 7, 5)).shape == (2, 4, 5)
