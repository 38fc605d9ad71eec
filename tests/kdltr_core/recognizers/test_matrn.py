"""MATRN: which visual positions it hides while it learns."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from kdltr_core.recognizers import matrn
from kdltr_core.recognizers.abinet import predicted_lengths
from kdltr_core.recognizers.matrn import Matrn, SemanticVisual, masked_positions
from tests.kdltr_core.small import SMALL

STEPS = 26
SIGMAS = 6.0


def told_apart(num_images: int) -> Tensor:
    """Step t looks most at positions 10 t to 10 t + 9, so that what is hidden says which step was picked."""
    attention = torch.rand(STEPS, 10 * STEPS, generator=torch.Generator().manual_seed(0))
    attention[torch.arange(STEPS)[:, None], torch.arange(10 * STEPS).view(STEPS, 10)] += 1
    return F.normalize(attention, p=1, dim=-1).expand(num_images, -1, -1)


def test_every_step_below_an_images_length_is_picked_equally_often_and_no_other() -> None:
    """A fair pick of n images falls on a step n / length times, ± 6 standard deviations √(n p (1 − p))."""
    torch.manual_seed(0)
    lengths = torch.tensor([2, 3, 17, 25, 26])
    hidden = masked_positions(told_apart(4000 * len(lengths)), lengths.repeat(4000))
    by_step = hidden.unflatten(1, (STEPS, 10)).any(dim=-1)
    assert by_step.sum(dim=1).max() == 1
    for length, counts in zip(lengths.tolist(), by_step.unflatten(0, (4000, -1)).sum(dim=0), strict=True):
        assert counts[length:].sum() == 0
        n, p = int(counts.sum()), 1 / length
        assert (counts[:length] - n * p).abs().max() <= SIGMAS * math.sqrt(n * p * (1 - p))


def test_nine_images_of_ten_hide_nine_positions_of_ten() -> None:
    """The number hidden of an image is B · Binomial(10, 0.9) with B Bernoulli(0.9).

    Its mean is 0.9 · 9 = 8.1 and its mean square 0.9 · (81 + 0.9) = 73.71, so its variance is 8.1. None is hidden with
    probability 0.1 + 0.9 · 0.1¹⁰; given that any is, each of the ten is with probability 0.9 / (1 − 0.1¹⁰).
    """
    torch.manual_seed(0)
    n = 20_000
    counts = masked_positions(told_apart(n), torch.full((n,), 26)).sum(dim=1)
    assert counts.max() <= 10
    assert abs(counts.float().mean() - 8.1) <= SIGMAS * math.sqrt(8.1 / n)
    untouched = int((counts == 0).sum())
    assert abs(untouched - 0.1 * n) <= SIGMAS * math.sqrt(n * 0.1 * 0.9)
    masked = n - untouched
    assert abs(counts.sum() / (10 * masked) - 0.9) <= SIGMAS * math.sqrt(0.9 * 0.1 / (10 * masked))


def layer() -> SemanticVisual:
    torch.manual_seed(0)
    return SemanticVisual(SMALL)


def features() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Language, tokens, attention and lengths of six images."""
    generator = torch.Generator().manual_seed(5)
    language, tokens, attention = (
        torch.randn(shape, generator=generator)
        for shape in ((6, STEPS, SMALL.dim), (6, 256, SMALL.dim), (6, STEPS, 256))
    )
    return language, tokens, attention.softmax(dim=-1), torch.arange(2, 8)


@torch.no_grad()
def test_in_training_the_hidden_tokens_are_replaced_by_the_learnt_one() -> None:
    module = layer().train()
    for child in module.modules():
        if isinstance(child, torch.nn.BatchNorm2d):
            child.eval()
    language, tokens, attention, lengths = features()
    torch.manual_seed(11)
    trained = module(language, tokens, attention, lengths)
    torch.manual_seed(11)
    hidden = masked_positions(attention, lengths)
    assert hidden.any()
    replaced = tokens.clone()
    replaced[hidden] = module.v_token[0]
    expected = module.eval()(language, replaced, attention, lengths)
    assert list(trained) == ["visual", "semantic", "fused"]
    for name, logits in expected.items():
        torch.testing.assert_close(trained[name], logits)


def test_nothing_is_hidden_in_evaluation() -> None:
    module, (language, tokens, attention, lengths) = layer().eval(), features()
    fused = module(language, tokens, attention, lengths)["fused"]
    fused.sum().backward()
    assert module.v_token.grad is None
    with torch.no_grad():
        module.v_token.add_(100.0)
        assert torch.equal(module(language, tokens, attention, lengths)["fused"], fused)


@torch.no_grad()
def test_the_step_is_picked_from_the_language_parts_reading(monkeypatch: pytest.MonkeyPatch) -> None:
    """Which here is empty, two steps long, where the vision part reads words without an end."""
    model, seen = Matrn((16, 64), SMALL).train(), []
    model.vision.cls.bias[0] = -100
    model.semantic_visual.cls.bias[0] = -100
    model.language.cls.bias[0] = 100

    def watched(attention: Tensor, lengths: Tensor) -> Tensor:
        seen.append(lengths.tolist())
        return masked_positions(attention, lengths)

    monkeypatch.setattr(matrn, "masked_positions", watched)
    output = model(torch.rand(3, 3, 16, 64))
    assert predicted_lengths(output.logits).tolist() == [26] * 3
    assert seen == [[2] * 3] * 3
