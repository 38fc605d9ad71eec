"""The step that the benchmark measures against computes the same loss, and the same gradient."""

from __future__ import annotations

import pytest
import torch

from kdltr_core.config import ObjectiveConfig
from kdltr_core.data.batch import encode_targets
from kdltr_core.recognizers.permutations import sample_permutations
from kdltr_core.train.distiller import Distiller, teach
from pipelines.measurement.plain_step import plain_terms
from tests.kdltr_core.small import STUDENTS, TEACHERS


@pytest.mark.parametrize("name", ["parseq_tiny", "abinet"])
def test_the_plain_step_has_the_loss_and_the_gradient_of_the_fast_one(name: str):
    torch.manual_seed(0)
    # A search for the paths of a teacher that is sure of nothing would not end.
    sure = ObjectiveConfig(contrast_group=2, sequence_threshold=0.0, num_permutations=4, soft_temperature=0.005)
    teacher = TEACHERS[name]().eval().requires_grad_(False)
    distiller = Distiller(STUDENTS[name](), sure, teacher).eval()
    targets, lengths = encode_targets(["on", "a", "exits"], teacher.charset, teacher.fixed_num_steps)
    orders = sample_permutations(5, sure.num_permutations, torch.Generator().manual_seed(0))
    high_res = torch.randint(0, 256, (3, 3, 32, 128), dtype=torch.uint8)
    low_res = torch.randint(0, 256, (3, 3, 16, 64), dtype=torch.uint8)

    fast = distiller(low_res, targets, lengths, orders, teach(teacher, high_res, targets, orders))
    fast.total.backward()
    gradients = {key: value.grad for key, value in distiller.named_parameters() if value.grad is not None}
    distiller.zero_grad(set_to_none=True)
    plain = plain_terms(distiller, teacher, high_res, low_res, targets, lengths, orders)
    plain.total.backward()
    for term, value in plain.terms.items():
        torch.testing.assert_close(fast.terms[term], value, rtol=1e-4, atol=1e-5, msg=term)
    torch.testing.assert_close(fast.total, plain.total, rtol=1e-4, atol=1e-5)
    for key, value in distiller.named_parameters():
        if value.grad is not None:
            torch.testing.assert_close(gradients[key], value.grad, rtol=1e-3, atol=1e-4, msg=key)
