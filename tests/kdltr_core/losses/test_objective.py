"""The objective as a whole: which terms, in which precision, and without waiting for the device."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from kdltr_core.charset import Charset94
from kdltr_core.config import ObjectiveConfig
from kdltr_core.data.batch import encode_targets
from kdltr_core.losses import LossTerms, Projector, compute_terms
from kdltr_core.recognizers.recognizer import RecognizerOutput
from tests.kdltr_core.small import STUDENTS

WORDS = ["x", "word", "a" * 25]


def random_output(seed: int, num_permutations: int) -> RecognizerOutput:
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator)

    return RecognizerOutput(
        logits=8 * normal(num_permutations, 3, 26, 95),
        visual=normal(3, 12, 32),
        semantic=normal(num_permutations, 3, 26, 16),
    )


def projector() -> Projector:
    torch.manual_seed(0)
    return Projector(16, hidden_width=8, output_width=8)


def loss_of(config: ObjectiveConfig, student: RecognizerOutput, teacher: RecognizerOutput | None) -> LossTerms:
    targets, lengths = encode_targets(WORDS, Charset94)
    return compute_terms(config, student, teacher, projector(), targets, lengths)


def permutation(output: RecognizerOutput, p: int) -> RecognizerOutput:
    assert output.semantic is not None
    return RecognizerOutput(output.logits[p : p + 1], output.visual, output.semantic[p : p + 1], output.attention)


def test_words_of_1_and_25_characters_give_finite_terms_and_the_weighted_total():
    loss = loss_of(ObjectiveConfig(), random_output(0, 2), random_output(1, 2))
    assert list(loss.terms) == ["visual_focus", "semantic_contrast", "soft_logits", "cross_entropy"]
    assert all(term.isfinite() and term.shape == () for term in loss.terms.values())
    visual, semantic, soft, cross = loss.terms.values()
    torch.testing.assert_close(loss.total, 4 * visual + 2 * semantic + 20 * soft + 0.025 * cross)


def test_a_batch_of_permutations_is_the_mean_over_permutations():
    student, teacher = random_output(0, 6), random_output(1, 6)
    alone = [loss_of(ObjectiveConfig(), permutation(student, p), permutation(teacher, p)) for p in range(6)]
    together = loss_of(ObjectiveConfig(), student, teacher)
    for name, term in together.terms.items():
        torch.testing.assert_close(term, torch.stack([loss.terms[name] for loss in alone]).mean())


def test_bfloat16_outputs_under_autocast_are_compared_in_float32():
    """The same values, rounded to bfloat16 before, give the same loss to float32's accuracy.

    But for the projector, a module with weights, which computes in the precision of its surroundings.
    """

    def rounded(output: RecognizerOutput, dtype: torch.dtype) -> RecognizerOutput:
        assert output.semantic is not None
        parts = (output.logits, output.visual, output.semantic)
        return RecognizerOutput(*(part.bfloat16().to(dtype) for part in parts))

    student, teacher = random_output(0, 2), random_output(1, 2)
    expected = loss_of(ObjectiveConfig(), rounded(student, torch.float32), rounded(teacher, torch.float32))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        actual = loss_of(ObjectiveConfig(), rounded(student, torch.bfloat16), rounded(teacher, torch.bfloat16))
    for name, term in actual.terms.items():
        assert term.dtype == torch.float32
        tolerance = 2e-2 if name == "semantic_contrast" else 1e-6
        torch.testing.assert_close(term, expected.terms[name], rtol=tolerance, atol=1e-6)


@pytest.mark.parametrize("name", ["visual_focus", "semantic_contrast", "soft_logits", "cross_entropy"])
def test_a_term_of_weight_0_is_not_computed(name: str):
    loss = loss_of(ObjectiveConfig(**{name: 0.0}), random_output(0, 1), random_output(1, 1))
    assert name not in loss.terms
    assert len(loss.terms) == 3


def test_supervised_is_cross_entropy_with_weight_1_and_no_teacher():
    loss = loss_of(ObjectiveConfig(name="supervised"), random_output(0, 1), None)
    assert list(loss.terms) == ["cross_entropy"]
    torch.testing.assert_close(loss.total, loss.terms["cross_entropy"])


def cross_entropy_by_hand(logits: Tensor, targets: Tensor, lengths: Tensor) -> float:
    """Mean of −log p of the label's classes over valid steps, one number at a time, then over iterations."""
    sums = []
    for iteration in logits.double().exp():
        steps = [(row, step) for row, length in enumerate(lengths.tolist()) for step in range(length)]
        p = [iteration[row, step, targets[row, step + 1]] / iteration[row, step].sum() for row, step in steps]
        sums.append(-sum(math.log(x) for x in p) / len(p))
    return sum(sums) / len(sums)


@pytest.mark.parametrize(
    ("family", "heads"),
    [
        ("abinet_vision", {"vision": 1}),
        ("abinet", {"vision": 1, "language": 1, "fused": 1}),
        ("matrn", {"vision": 1, "language": 3, "visual": 3, "semantic": 3, "fused": 3}),
    ],
)
def test_supervised_teaches_every_head_alike(family: str, heads: dict[str, int]):
    """Of a head that corrects itself, every iteration."""
    torch.manual_seed(0)
    student = STUDENTS[family]().eval()
    targets, lengths = encode_targets(WORDS, student.charset, student.fixed_num_steps)
    with torch.no_grad():
        output = student.forward_training(torch.rand(3, 3, 16, 64), targets, torch.arange(27)[None])
        output = replace(output, heads={name: 5 * logits for name, logits in output.heads.items()})
        config = ObjectiveConfig(name="supervised")
        loss = compute_terms(config, output, None, None, targets, lengths)
    assert {name: len(logits) for name, logits in output.heads.items()} == heads
    *auxiliary, reading = heads
    expected = {
        f"cross_entropy_{name}": cross_entropy_by_hand(output.heads[name], targets, lengths) for name in auxiliary
    }
    expected["cross_entropy"] = cross_entropy_by_hand(output.heads[reading], targets, lengths)
    assert {name: term.item() for name, term in loss.terms.items()} == pytest.approx(expected, rel=1e-5)
    assert len(set(expected.values())) == len(heads)
    assert loss.total.item() == pytest.approx(sum(expected.values()), rel=1e-5)


def test_distillation_looks_at_no_head_but_the_one_that_reads():
    student, teacher = random_output(0, 1), random_output(1, 1)
    heads = {name: torch.randn(1, 3, 26, 95) for name in ("vision", "language", "fused")}
    with_heads, without = (
        loss_of(ObjectiveConfig(), side, teacher) for side in (replace(student, heads=heads), student)
    )
    assert list(with_heads.terms) == list(without.terms)
    assert torch.equal(with_heads.total, without.total)


def test_distillation_without_a_teacher_is_refused():
    with pytest.raises(ValueError, match="needs a teacher"):
        loss_of(ObjectiveConfig(), random_output(0, 1), None)


def test_an_objective_without_any_weight_is_refused():
    nothing = ObjectiveConfig(visual_focus=0, semantic_contrast=0, soft_logits=0, cross_entropy=0)
    with pytest.raises(ValueError, match="all 0"):
        loss_of(nothing, random_output(0, 1), random_output(1, 1))
