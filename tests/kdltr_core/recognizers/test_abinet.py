"""ABINet: what its parts may look at, how often it corrects itself, and how its weights lie in memory."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from kdltr_core.recognizers.abinet import Abinet, AbinetVision, LanguageModel, predicted_lengths
from tests.kdltr_core.small import CNN_FAMILIES, SMALL, STUDENTS, TEACHERS

STEPS, CLASSES = 26, 37


def language_model() -> LanguageModel:
    torch.manual_seed(0)
    return LanguageModel(SMALL).eval()


def readings(num_words: int, seed: int = 0) -> Tensor:
    return torch.randn(num_words, STEPS, CLASSES, generator=torch.Generator().manual_seed(seed)).softmax(dim=-1)


@pytest.mark.parametrize("length", [2, 3, 9, 25, 26])
def test_a_step_is_predicted_from_all_the_other_steps_of_the_word_and_from_nothing_else(length: int) -> None:
    """In word i, step i of the input is replaced; what changes in the output says who looked there."""
    original = readings(1)
    replaced = original.repeat(STEPS, 1, 1)
    steps = torch.arange(STEPS)
    replaced[steps, steps] = F.one_hot(steps % CLASSES, CLASSES).float()
    with torch.no_grad():
        feature, logits = language_model()(torch.cat([original, replaced]), torch.full((1 + STEPS,), length))
    looked = (steps[:, None] != steps) & (steps[:, None] < length)
    for output in (feature, logits):
        change = (output[1:] - output[:1]).abs().amax(dim=-1)
        assert change[~looked].max() < 1e-6
        assert change[looked].min() > 1e-4


def test_every_word_of_a_batch_is_masked_by_its_own_length() -> None:
    model, words, lengths = language_model(), readings(3), torch.tensor([2, 26, 7])
    with torch.no_grad():
        together = model(words, lengths)[1]
        for row, length in enumerate(lengths):
            alone = model(words[row : row + 1], length[None])[1]
            torch.testing.assert_close(together[row : row + 1], alone, rtol=1e-5, atol=1e-6)


def test_no_gradient_flows_into_the_reading_that_the_language_model_corrects() -> None:
    model, words = language_model(), readings(2).requires_grad_()
    model(words, torch.tensor([4, 26]))[1].sum().backward()
    assert words.grad is None
    assert model.proj.weight.grad is not None


@pytest.mark.parametrize(
    ("best", "length"),
    [
        ([5, 4, 0, 3, 0, 0], 3),  # the first end counts, what follows does not
        ([5, 0, 1, 1, 1, 1], 2),
        ([0, 5, 5, 5, 5, 5], 2),  # an empty reading still has two steps
        ([0, 0, 0, 0, 0, 0], 2),
        ([1, 2, 3, 4, 5, 0], 6),
        ([1, 2, 3, 4, 5, 6], 6),  # without an end: all there are
    ],
)
def test_the_length_of_a_reading_is_up_to_its_first_end(best: list[int], length: int) -> None:
    logits = F.one_hot(torch.tensor([best, [1] * 6]), 7).float()
    assert predicted_lengths(logits).tolist() == [length, 6]
    assert predicted_lengths(F.one_hot(torch.tensor([[3, 6, 3]]), 7).float(), end_id=6).tolist() == [2]


def corrected_by_hand(model: Abinet, images: Tensor, times: int) -> Tensor:
    vision = model.vision.forward_vision(images)
    logits = vision.logits
    for _ in range(times):
        expected = model.language(logits.softmax(-1), predicted_lengths(logits))[0]
        gate = torch.sigmoid(model.alignment.w_att(torch.cat([expected, vision.feature], dim=-1)))
        logits = model.alignment.cls(gate * vision.feature + (1 - gate) * expected)
    return logits


@torch.no_grad()
def test_abinet_corrects_its_reading_as_often_as_it_is_told() -> None:
    torch.manual_seed(0)
    once, thrice = Abinet((16, 64), SMALL).eval(), Abinet((16, 64), SMALL, num_iterations=3).eval()
    thrice.load_state_dict(once.state_dict())
    images = torch.rand(3, 3, 16, 64)
    torch.testing.assert_close(once(images).logits, corrected_by_hand(once, images, 1))
    torch.testing.assert_close(thrice(images).logits, corrected_by_hand(once, images, 3))
    assert not torch.allclose(once(images).logits, thrice(images).logits, atol=1e-4)
    training = thrice.forward_training(images, torch.empty(0), torch.empty(0))
    assert {name: tuple(head.shape) for name, head in training.heads.items()} == {
        "vision": (1, 3, STEPS, CLASSES),
        "language": (3, 3, STEPS, CLASSES),
        "fused": (3, 3, STEPS, CLASSES),
    }
    for times in (1, 2, 3):
        torch.testing.assert_close(training.heads["fused"][times - 1], corrected_by_hand(once, images, times))
    torch.testing.assert_close(training.logits[0], thrice(images).logits)  # the last is what is distilled


@pytest.mark.parametrize("family", CNN_FAMILIES)
@torch.no_grad()
def test_the_training_forward_sees_and_reads_what_the_plain_one_does(family: str) -> None:
    torch.manual_seed(0)
    for size, module in (((16, 64), STUDENTS[family]().eval()), ((32, 128), TEACHERS[family]().eval())):
        images = torch.rand(2, 3, *size)
        reading, training = module(images), module.forward_training(images, torch.empty(0), torch.empty(0))
        assert (training.logits.shape, training.semantic.shape) == ((1, 2, 26, 37), (1, 2, 26, module.semantic_width))
        assert reading.visual.shape[1:] == module.visual_shape
        for ours, theirs in (
            (training.logits[0], reading.logits),
            (training.semantic[0], reading.semantic),
            (training.visual, reading.visual),
            (training.attention, reading.attention),
        ):
            assert torch.equal(ours, theirs)
        torch.testing.assert_close(reading.attention.sum(dim=-1), torch.ones(2, STEPS))


@pytest.mark.parametrize("size", [(32, 64), (16, 128), (24, 96), (64, 256), (8, 32)])
def test_another_image_size_is_refused(size: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match=r"built for \(32, 128\) and \(16, 64\)"):
        AbinetVision(size, SMALL)
