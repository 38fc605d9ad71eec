"""The K best decoding paths are exact."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from torch import Tensor

from kdltr_core.losses.sequence_targets import sequence_targets
from tests.golden_weights import golden_arrays


def random_probs(num_words: int, num_steps: int, num_classes: int, seed: int, sharpness: float = 2.0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return (sharpness * torch.randn(num_words, num_steps, num_classes, generator=generator)).softmax(-1)


def by_enumeration(probs: np.ndarray, num_paths: int, branching: int) -> tuple[np.ndarray, int, float]:
    """Every path of one word, written out, sorted; distribution (T, C), length and probability of the best."""
    num_steps, num_classes = probs.shape
    likely = [np.argsort(-step)[:branching].tolist() for step in probs]
    paths = set()
    for classes in itertools.product(*likely):
        paths.add(classes[: classes.index(0) + 1] if 0 in classes else classes)

    def probability(path: tuple[int, ...]) -> float:
        return math.prod(float(probs[step, k]) for step, k in enumerate(path))

    best = sorted(paths, key=lambda path: probability(path) / len(path), reverse=True)[:num_paths]
    votes = np.zeros((num_steps, num_classes))
    for path in best:
        for step in range(num_steps):
            votes[step, path[step] if step < len(path) else 0] += probability(path)
    return votes / sum(probability(path) for path in best), len(best[0]), probability(best[0])


@pytest.mark.parametrize("case", [0, 1, 2])
def test_distribution_and_length_are_the_published_ones(case: int):
    golden = golden_arrays("losses/sequence_distribution")
    targets = sequence_targets(golden[f"{case}.probs"])
    torch.testing.assert_close(targets.distribution, golden[f"{case}.sequence_probs"], rtol=1e-4, atol=1e-4)
    assert targets.length.tolist() == golden[f"{case}.length"].tolist()
    mixed = 0.2 * (targets.best_probability >= 0.1)
    torch.testing.assert_close(mixed, golden[f"{case}.alpha"])


@pytest.mark.parametrize(
    ("num_steps", "num_classes", "num_paths", "branching"),
    [
        (1, 4, 6, 3),
        (2, 3, 6, 3),
        (4, 4, 6, 3),
        (5, 5, 1, 3),
        (6, 6, 6, 3),
        (5, 4, 20, 4),
        (5, 4, 6, 2),
        (7, 5, 3, 1),
        (3, 3, 50, 9),  # more paths wanted than there are, and more branches than classes
    ],
)
@pytest.mark.parametrize("sharpness", [0.3, 2.0, 5.0])
def test_equal_to_enumeration_of_all_paths(
    num_steps: int, num_classes: int, num_paths: int, branching: int, sharpness: float
):
    probs = random_probs(24, num_steps, num_classes, seed=num_steps + num_paths, sharpness=sharpness)
    targets = sequence_targets(probs, num_paths, branching)
    for word in range(len(probs)):
        distribution, length, probability = by_enumeration(probs[word].double().numpy(), num_paths, branching)
        np.testing.assert_allclose(targets.distribution[word].numpy(), distribution, rtol=1e-4, atol=1e-6)
        assert int(targets.length[word]) == length
        assert float(targets.best_probability[word]) == pytest.approx(probability, rel=1e-4)


def test_a_shorter_path_outranks_a_more_probable_longer_one():
    """End at once: 0.35 / 1. One character, then the end: 0.65 · 1 / 2 = 0.325, though 0.65 is more probable."""
    probs = torch.tensor([[[0.35, 0.65], [1.0, 0.0]]])
    targets = sequence_targets(probs, num_paths=1)
    assert targets.length.tolist() == [1]
    torch.testing.assert_close(targets.best_probability, torch.tensor([0.35]))
    torch.testing.assert_close(targets.distribution, torch.tensor([[[1.0, 0.0], [1.0, 0.0]]]))


def test_worked_example_of_the_paper():
    """Three paths SHAPE 0.50, SAAPE 0.05, SHOPE 0.20: the third step votes for A with 0.55 / 0.75 = 0.733."""
    end, s, h, a, o, p, e, *others = range(12)
    probs = torch.zeros(1, 6, 12)
    for step, certain in enumerate([s, None, None, p, e, end]):
        if certain is not None:
            probs[0, step, certain] = 1.0
    # P(SHAPE) = h2 · a3, P(SAAPE) = a2 · a3, P(SHOPE) = h2 · o3, with a3 = 0.6; the rest goes where it does not count.
    probs[0, 1, [h, a]] = torch.tensor([0.50, 0.05]) / 0.6
    probs[0, 2, [a, o]] = torch.tensor([0.6, 0.24])
    for step in (1, 2):
        probs[0, step, others] = (1 - probs[0, step].sum()) / len(others)
    targets = sequence_targets(probs, num_paths=3)
    assert float(targets.distribution[0, 2, a]) == pytest.approx(0.55 / 0.75, abs=1e-4)
    assert float(targets.best_probability) == pytest.approx(0.50, abs=1e-4)
    assert int(targets.length) == 6


def test_a_word_that_never_ends_has_full_length():
    probs = random_probs(3, 26, 37, seed=1)
    probs[..., 0] = 0.0
    probs = probs / probs.sum(-1, keepdim=True)
    targets = sequence_targets(probs)
    assert targets.length.tolist() == [26, 26, 26]
    torch.testing.assert_close(targets.best_probability, probs.amax(-1).prod(-1))
    torch.testing.assert_close(targets.distribution.sum(-1), torch.ones(3, 26))


def test_steps_of_certainty_and_of_near_zero_probability_stay_finite():
    probs = random_probs(4, 26, 95, seed=2, sharpness=60.0)
    assert float(probs.min()) == 0.0
    targets = sequence_targets(probs)
    assert targets.distribution.isfinite().all()
    torch.testing.assert_close(targets.distribution.sum(-1), torch.ones(4, 26))


@pytest.mark.parametrize(("num_paths", "branching"), [(0, 3), (6, 0)])
def test_no_paths_or_branches_is_refused(num_paths: int, branching: int):
    with pytest.raises(ValueError, match="at least 1"):
        sequence_targets(random_probs(1, 2, 3, seed=0), num_paths, branching)
