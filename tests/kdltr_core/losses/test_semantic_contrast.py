"""Semantic contrast against its definition, vector by vector."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from kdltr_core.data.batch import valid_rows
from kdltr_core.losses.semantic_contrast import Projector, semantic_contrast


def random_sides(num_permutations: int, num_images: int, num_steps: int, seed: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    shape = (num_permutations, num_images, num_steps, 6)
    return torch.randn(shape, generator=generator), torch.randn(shape, generator=generator)


def by_definition(student: Tensor, teacher: Tensor, lengths: list[int], temperature: float) -> float:
    """One group, one permutation, (N, T, D), already projected: loops over all vectors."""
    kept = [(image, step) for image, length in enumerate(lengths) for step in range(length)]
    vectors = [side[at] / side[at].norm() for side in (student, teacher) for at in kept]
    losses = []
    for i, vector in enumerate(vectors):
        scores = {j: float(vector @ other) / temperature for j, other in enumerate(vectors) if j != i}
        twin = (i + len(kept)) % len(vectors)
        losses.append(math.log(sum(math.exp(score) for score in scores.values())) - scores[twin])
    return sum(losses) / len(losses)


@pytest.mark.parametrize("lengths", [[2, 4, 1], [4, 4, 4], [1, 1, 1]])
def test_equal_to_the_definition(lengths: list[int]):
    student, teacher = random_sides(1, 3, 4, seed=0)
    loss = semantic_contrast(student, teacher, torch.tensor(lengths), nn.Identity())
    assert float(loss) == pytest.approx(by_definition(student[0], teacher[0], lengths, 0.1), rel=1e-4)


def test_groups_are_contrasted_apart_and_weigh_the_same():
    lengths = [3, 2, 4, 1, 2]
    student, teacher = random_sides(2, 5, 4, seed=1)
    loss = semantic_contrast(student, teacher, torch.tensor(lengths), nn.Identity(), temperature=0.5, group=2)
    expected = [
        by_definition(student[p, g : g + 2], teacher[p, g : g + 2], lengths[g : g + 2], 0.5)
        for p in range(2)
        for g in (0, 2, 4)
    ]
    assert float(loss) == pytest.approx(sum(expected) / 6, rel=1e-4)


@pytest.mark.parametrize(("group", "least"), [(2, 0), (2, 7), (64, 0)])
def test_without_the_padding_loss_and_gradient_are_the_same(group: int, least: int):
    lengths = torch.tensor([3, 2, 4, 1, 2])
    results = []
    for rows in (None, valid_rows(lengths, 4, group, least)):
        student, teacher = random_sides(2, 5, 4, seed=4)
        loss = semantic_contrast(student.requires_grad_(), teacher, lengths, nn.Identity(), 0.5, group, rows)
        loss.backward()
        results.append((loss.detach(), student.grad))
    torch.testing.assert_close(results[1], results[0])


def test_rows_are_the_valid_steps_of_each_group():
    """Three words of two steps at most, in groups of two: steps 0 and 2, 3; then 4, 5."""
    assert valid_rows(torch.tensor([1, 2, 2]), 2, group=2).tolist() == [[0, 2, 3], [4, 5, -1]]
    assert valid_rows(torch.tensor([1, 2, 2]), 2, group=2, least=4).shape == (2, 4)


def test_a_single_step_has_nothing_to_tell_apart():
    """One word of length 1: the twin is the only other vector."""
    student, teacher = random_sides(1, 1, 3, seed=3)
    student.requires_grad_()
    loss = semantic_contrast(student, teacher, torch.tensor([1]), nn.Identity())
    loss.backward()
    assert loss.item() == pytest.approx(0.0, abs=1e-5)
    assert student.grad.isfinite().all()


def test_no_gradient_reaches_invalid_steps_or_the_teacher():
    student, teacher = (side.requires_grad_() for side in random_sides(1, 3, 4, seed=4))
    lengths = torch.tensor([2, 4, 1])
    semantic_contrast(student, teacher, lengths, nn.Identity(), group=2).backward()
    invalid = torch.arange(4) >= lengths[:, None]
    assert teacher.grad is None
    assert student.grad[0][invalid].count_nonzero() == 0
    assert (
        student.grad[0][~invalid].abs().sum(-1) > 0
    ).sum() >= 6  # the last image, alone with one step, learns nothing


def test_the_projector_reads_both_directions():
    projector = Projector(6, hidden_width=8, output_width=7)
    semantic = torch.randn(2, 3, 5, 6)
    changed = semantic.clone()
    changed[..., 4, :] += 1.0
    before, after = projector(semantic), projector(changed)
    assert before.shape == (2, 3, 5, 7)
    assert (before[..., 0, :] != after[..., 0, :]).any()
