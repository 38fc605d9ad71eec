"""Soft logits against their definition, step by step."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from kdltr_core.losses.sequence_targets import sequence_targets
from kdltr_core.losses.soft_logits import soft_logits


def random_logits(shape: tuple[int, ...], seed: int, scale: float) -> Tensor:
    return scale * torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def by_definition(student: Tensor, teacher: Tensor, temperature: float, mix: float, threshold: float) -> float:
    """(P, N, T, C): loops over words and steps."""
    losses = []
    for s, t in zip(student.flatten(0, 1), teacher.flatten(0, 1), strict=True):
        q, p = (t / temperature).softmax(-1), (s / temperature).softmax(-1)
        sequence = sequence_targets(q[None])
        if float(sequence.best_probability) >= threshold:
            q = mix * sequence.distribution[0] + (1 - mix) * q
        length = int(sequence.length)
        terms = [
            float(q[step, k]) * (math.log(float(q[step, k])) - max(math.log(float(p[step, k])), -10.0))
            for step in range(length)
            for k in range(q.shape[1])
            if q[step, k] > 0
        ]
        losses.append(sum(terms) / length)
    return sum(losses) / len(losses)


@pytest.mark.parametrize("threshold", [0.0, 0.1, 1.0])
@pytest.mark.parametrize("mix", [0.0, 0.2, 1.0])
def test_equal_to_the_definition(mix: float, threshold: float):
    student, teacher = random_logits((2, 5, 4, 6), 0, 20.0), random_logits((2, 5, 4, 6), 1, 12.0)
    loss = soft_logits(student, teacher, mix=mix, threshold=threshold)
    assert float(loss) == pytest.approx(by_definition(student, teacher, 4.0, mix, threshold), rel=1e-4)


def test_a_student_equal_to_a_teacher_without_mixing_has_no_loss():
    logits = random_logits((1, 6, 5, 37), 2, 4.0)
    assert abs(float(soft_logits(logits, logits, mix=0.0))) < 1e-6


def test_nothing_is_taught_past_the_end_of_the_teachers_best_path():
    teacher = torch.full((1, 1, 5, 4), -40.0)
    teacher[0, 0, range(5), [2, 1, 0, 3, 3]] = 40.0
    student = random_logits((1, 1, 5, 4), 3, 1.0).requires_grad_()
    soft_logits(student, teacher).backward()
    taught = student.grad[0, 0].abs().sum(-1) > 0
    assert taught.tolist() == [True, True, True, False, False]


def test_a_hopeless_student_pays_no_more_than_the_floor():
    """Teacher certain of one class, student certain of another: −log p would be 25, and is held at 10."""
    teacher, student = torch.full((1, 1, 1, 3), -400.0), torch.zeros(1, 1, 1, 3)
    teacher[..., 0], student[..., 1] = 400.0, 100.0
    assert float(soft_logits(student, teacher)) == pytest.approx(10.0, rel=1e-5)


def test_certain_teachers_give_finite_values_and_gradients():
    student = random_logits((2, 3, 26, 95), 4, 100.0).requires_grad_()
    loss = soft_logits(student, random_logits((2, 3, 26, 95), 5, 1000.0))
    loss.backward()
    assert loss.isfinite()
    assert student.grad.isfinite().all()
