"""The terms of the published baselines, each against its formula written out, and what it must not depend on."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from kdltr_core.charset import Charset94
from kdltr_core.config import ObjectiveConfig
from kdltr_core.data.batch import encode_targets
from kdltr_core.losses import compute_terms
from kdltr_core.losses.baselines import (
    affinity,
    attention_divergence,
    attention_maps,
    attention_similarity,
    character_hint,
    feature_distance,
    path_likelihood,
    step_logits,
)
from kdltr_core.losses.objective import BASELINES
from kdltr_core.recognizers import RecognizerOutput

LENGTHS = torch.tensor([2, 4])


def normal(seed: int, *shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def output(seed: int, with_attention: bool = False) -> RecognizerOutput:
    attention = normal(seed + 3, 2, 4, 6).softmax(-1) if with_attention else None
    return RecognizerOutput(
        normal(seed, 2, 2, 4, 95), normal(seed + 1, 2, 5, 6), normal(seed + 2, 2, 2, 4, 8), attention
    )


def test_feature_distance_is_the_mean_squared_difference():
    student, teacher = normal(0, 2, 5, 6), normal(1, 2, 5, 6)
    torch.testing.assert_close(feature_distance(student, teacher), F.mse_loss(student, teacher))


def test_attention_similarity_averages_an_images_valid_maps_and_then_images():
    student, teacher = normal(0, 2, 4, 6).softmax(-1), normal(1, 2, 4, 6).softmax(-1)
    valid = torch.arange(4) < LENGTHS[:, None]
    per_image = [
        sum(1 - float(F.cosine_similarity(student[i, t], teacher[i, t], dim=0)) for t in range(int(n))) / int(n)
        for i, n in enumerate(LENGTHS)
    ]
    assert float(attention_similarity(student, teacher, valid)) == pytest.approx(sum(per_image) / 2, rel=1e-5)


def test_attention_divergence_is_torchs_kl():
    student, teacher = normal(0, 2, 4, 6).softmax(-1), normal(1, 2, 4, 6).softmax(-1)
    every = torch.ones(2, 4, dtype=torch.bool)
    expected = F.kl_div(student.log(), teacher, reduction="sum") / 8
    torch.testing.assert_close(attention_divergence(student, teacher, every), expected)


def test_a_family_without_attention_is_compared_by_where_its_features_are_strong():
    visual = torch.zeros(1, 2, 4)
    visual[0, :, 1], visual[0, 0, 3] = 2.0, 2.0
    maps, valid = attention_maps(RecognizerOutput(torch.zeros(1, 1, 3, 95), visual), torch.tensor([3]))
    torch.testing.assert_close(maps, torch.tensor([[[0.0, 2 / 3, 0.0, 1 / 3]]]))
    assert valid.tolist() == [[True]]


def test_character_hint_and_affinity_written_out_word_by_word():
    student, teacher = normal(0, 2, 2, 4, 8), normal(1, 2, 2, 4, 8)
    hints, affinities = [], []
    for p in range(2):
        for i, n in enumerate(LENGTHS.tolist()):
            mine, theirs = student[p, i, :n], teacher[p, i, :n]
            hints.append(F.mse_loss(mine, theirs))
            own, wanted = (F.cosine_similarity(v[:, None], v[None], dim=-1) for v in (mine, theirs))
            affinities.append(F.mse_loss(own, wanted))
    torch.testing.assert_close(character_hint(student, teacher, LENGTHS), torch.stack(hints).mean())
    torch.testing.assert_close(affinity(student, teacher, LENGTHS), torch.stack(affinities).mean())


def test_affinity_takes_two_widths():
    wide = torch.cat([normal(0, 1, 2, 4, 8), torch.zeros(1, 2, 4, 3)], dim=-1)
    assert float(affinity(normal(0, 1, 2, 4, 8), wide, LENGTHS)) < 1e-10


def test_step_logits_is_hintons_loss_over_valid_steps():
    student, teacher, tau = normal(0, 2, 2, 4, 95), normal(1, 2, 2, 4, 95), 3.0
    words = []
    for p in range(2):
        for i, n in enumerate(LENGTHS.tolist()):
            log_p, q = (student[p, i, :n] / tau).log_softmax(-1), (teacher[p, i, :n] / tau).softmax(-1)
            words.append(tau**2 * F.kl_div(log_p, q, reduction="sum") / n)
    torch.testing.assert_close(step_logits(student, teacher, LENGTHS, tau), torch.stack(words).mean())


@pytest.mark.parametrize("name", BASELINES)
@pytest.mark.parametrize("with_attention", [False, True])
def test_a_baseline_is_cross_entropy_and_its_own_terms_and_teaches_only_the_student(name: str, with_attention: bool):
    student, teacher = output(0, with_attention), output(10, with_attention)
    for side in (student, teacher):
        for part in (side.logits, side.visual, side.semantic, side.attention):
            if part is not None:
                part.requires_grad_()
    targets, lengths = encode_targets(["x", "abc"], Charset94)
    loss = compute_terms(ObjectiveConfig(name=name), student, teacher, None, targets, lengths)
    assert set(loss.terms) == {*BASELINES[name], "cross_entropy"}
    guided = sum(weight * loss.terms[term] for term, weight in BASELINES[name].items())
    torch.testing.assert_close(loss.total, guided + loss.terms["cross_entropy"])
    loss.total.backward()
    assert student.logits.grad.abs().max() > 0
    assert all(part.grad is None for part in (teacher.logits, teacher.visual, teacher.semantic))


@pytest.mark.parametrize("name", BASELINES)
def test_a_student_that_is_its_teacher_has_nothing_to_learn_from_it(name: str):
    targets, lengths = encode_targets(["x", "abc"], Charset94)
    same = output(0, with_attention=True)
    loss = compute_terms(ObjectiveConfig(name=name), same, same, None, targets, lengths)
    for term in BASELINES[name].keys() - {"path_likelihood"}:  # that has the teacher's own doubt for its least
        assert math.isclose(float(loss.terms[term]), 0.0, abs_tol=1e-5), term


def test_path_likelihood_is_minus_the_log_probability_of_a_certain_teachers_word():
    """The teacher reads b, a, end without a doubt: the loss is −log p(b) − log p(a) − log p(end) and nothing after."""
    student, teacher = normal(0, 1, 1, 5, 4), torch.full((1, 1, 5, 4), -50.0)
    teacher[0, 0, range(5), [2, 1, 0, 3, 3]] = 50.0
    p = student[0, 0].double().softmax(-1)
    expected = -math.log(p[0, 2]) - math.log(p[1, 1]) - math.log(p[2, 0])
    student.requires_grad_()
    loss = path_likelihood(student, teacher)
    assert float(loss.detach()) == pytest.approx(expected, rel=1e-5)
    loss.backward()
    assert (student.grad[0, 0].abs().sum(-1) > 0).tolist() == [True, True, True, False, False]


def test_path_likelihood_weighs_paths_by_the_teachers_belief_in_them():
    """Two readings of one length, 0.8 and 0.2: −0.8 log p(first) − 0.2 log p(second), here path by path."""
    teacher = torch.full((1, 1, 2, 4), -50.0)
    teacher[0, 0, 0, 2], teacher[0, 0, 0, 3], teacher[0, 0, 1, 0] = math.log(0.8), math.log(0.2), 0.0
    log_p = normal(1, 1, 1, 2, 4).log_softmax(-1)
    first, second = log_p[0, 0, 0, 2] + log_p[0, 0, 1, 0], log_p[0, 0, 0, 3] + log_p[0, 0, 1, 0]
    torch.testing.assert_close(path_likelihood(log_p, teacher), -0.8 * first - 0.2 * second)


def test_a_skd_weighs_its_term_as_its_public_code_does():
    targets, lengths = encode_targets(["x", "abc"], Charset94)
    loss = compute_terms(ObjectiveConfig(name="a_skd"), output(0), output(10), None, targets, lengths)
    torch.testing.assert_close(loss.total, 5 * loss.terms["attention_similarity"] + loss.terms["cross_entropy"])
