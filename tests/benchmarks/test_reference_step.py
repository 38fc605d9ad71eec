"""The reference that the benchmark measures against computes the same thing."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from benchmarks.reference_step import decode_pairs, reference_terms, search_sequence_targets
from benchmarks.step import confident_probs
from kdltr_core.config import ObjectiveConfig
from kdltr_core.data.lmdb_store import LmdbStore
from kdltr_core.data.pack import build_pack
from kdltr_core.data.synth.render import render_words
from kdltr_core.losses.sequence_targets import sequence_targets
from kdltr_core.train.distiller import Distiller, teach
from tests.kdltr_core.small import STUDENTS, TEACHERS, drawn_batch


@pytest.mark.parametrize(("margin", "num_steps"), [(14.0, 26), (8.0, 5), (0.0, 4)])
def test_the_priority_queue_without_a_limit_finds_what_sequence_targets_finds(margin: float, num_steps: int):
    probs = confident_probs(12, num_steps, 37, margin, temperature=4.0)
    searched, programmed = search_sequence_targets(probs), sequence_targets(probs)
    assert searched.length.tolist() == programmed.length.tolist()
    torch.testing.assert_close(searched.best_probability, programmed.best_probability, rtol=1e-4, atol=0.0)
    torch.testing.assert_close(searched.distribution, programmed.distribution, rtol=1e-4, atol=1e-5)


def test_a_limited_priority_queue_still_gives_distributions():
    probs = confident_probs(4, 26, 37, margin=2.0, temperature=4.0)
    searched = search_sequence_targets(probs, max_expansions=10)
    torch.testing.assert_close(searched.distribution.sum(-1), torch.ones(4, 26))


def test_decoding_from_the_lmdb_gives_the_pixels_of_the_pack(tmp_path):
    root = tmp_path / "words"
    render_words(root, 6, seed=0)
    pack = build_pack(root, cache_folder=tmp_path / "packs")
    rows = np.array([4, 0, 2])
    for decoded, gathered in zip(decode_pairs(LmdbStore.open(root), rows + 1), pack.gather(rows), strict=True):
        assert torch.equal(decoded, gathered)


@pytest.mark.parametrize("name", ["parseq_tiny", "abinet"])
def test_the_reference_has_the_loss_and_the_gradient_of_the_fast_one(name: str):
    torch.manual_seed(0)
    # A search for the paths of a teacher that is confident of nothing would not end.
    config = ObjectiveConfig(num_permutations=4, soft_temperature=0.005)
    teacher = TEACHERS[name]().eval().requires_grad_(False)
    distiller = Distiller(STUDENTS[name](), config, teacher).eval()
    high_res, low_res, targets, lengths, orders = drawn_batch(teacher, "on", "a", "exits", num_orders=4)
    fast = distiller(low_res, targets, lengths, orders, teach(teacher, high_res, targets, orders))
    fast.total.backward()
    gradients = {key: value.grad for key, value in distiller.named_parameters() if value.grad is not None}
    distiller.zero_grad(set_to_none=True)
    reference = reference_terms(distiller, teacher, high_res, low_res, targets, lengths, orders)
    reference.total.backward()
    for term, value in reference.terms.items():
        torch.testing.assert_close(fast.terms[term], value, rtol=1e-4, atol=1e-5, msg=term)
    torch.testing.assert_close(fast.total, reference.total, rtol=1e-4, atol=1e-5)
    for key, value in distiller.named_parameters():
        if value.grad is not None:
            torch.testing.assert_close(gradients[key], value.grad, rtol=1e-3, atol=1e-4, msg=key)
