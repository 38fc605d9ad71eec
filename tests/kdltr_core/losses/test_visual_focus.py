"""Visual focus against its formula, and dead channels."""

from __future__ import annotations

import math

import torch

from kdltr_core.losses.visual_focus import focus_mask, visual_focus


def test_mask_is_the_largest_attention_of_valid_steps():
    attention = torch.tensor([[[0.1, 0.9], [0.8, 0.2], [0.0, 1.0]]]).repeat(2, 1, 1)
    mask = focus_mask(attention, torch.tensor([2, 1]))
    torch.testing.assert_close(mask, torch.tensor([[[0.8, 0.9]], [[0.1, 0.9]]]))


def test_one_minus_the_cosine_of_masked_standardised_channels():
    """Written out for one channel: deviations (-1, 0, 1) and (-2, 3, -1), masked by (1, 1, 0.5)."""
    student, teacher = torch.tensor([[[4.0, 5.0, 6.0]]]), torch.tensor([[[1.0, 6.0, 2.0]]])
    product = 1 * 2 + 0 * 3 - 0.5 * 0.5
    norms = math.sqrt(1 + 0 + 0.25) * math.sqrt(4 + 9 + 0.25)
    loss = visual_focus(student, teacher, torch.tensor([[[1.0, 1.0, 0.5]]]))
    assert math.isclose(float(loss), 1 - product / norms, rel_tol=1e-5)


def test_scale_and_offset_of_a_channel_do_not_matter():
    teacher = torch.randn(2, 5, 40, generator=torch.Generator().manual_seed(0))
    scale = torch.tensor([0.01, 1.0, 3.0, 50.0, 400.0])[:, None]
    assert abs(float(visual_focus(scale * teacher + 7.0, teacher))) < 1e-4


def test_a_constant_channel_counts_as_unlike_and_leaves_gradients_small():
    generator = torch.Generator().manual_seed(0)
    student, teacher = (torch.randn(2, 4, 50, generator=generator) for _ in range(2))
    student[0, 1], teacher[1, 2] = 0.3, 0.0
    expected = visual_focus(student[:, [0, 3]], teacher[:, [0, 3]]) * 4
    expected = (
        expected + visual_focus(student[1:, [1]], teacher[1:, [1]]) + visual_focus(student[:1, [2]], teacher[:1, [2]])
    )
    expected = (expected + 2) / 8  # the two dead channels have cosine 0

    student.requires_grad_()
    loss = visual_focus(student, teacher)
    torch.testing.assert_close(loss.detach(), expected)
    loss.backward()
    assert student.grad.isfinite().all()
    assert float(student.grad.abs().max()) < 1.0
    assert student.grad[0, 1].count_nonzero() == 0
    assert student.grad[1, 1].count_nonzero() > 0
