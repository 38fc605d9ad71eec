"""What the benchmark compares computes the same thing."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from kdltr_core.data.lmdb_store import LmdbStore
from kdltr_core.data.packed import build_pack
from kdltr_core.data.synth.render import render_pairs
from kdltr_core.losses.sequence_targets import sequence_targets
from pipelines.measurement.baselines import decode_pairs, search_sequence_targets
from pipelines.measurement.sections import confident_probs


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
    render_pairs(root, 6, seed=0)
    pack = build_pack(root, cache_folder=tmp_path / "packs")
    rows = np.array([4, 0, 2])
    for decoded, gathered in zip(decode_pairs(LmdbStore.open(root), rows + 1), pack.gather(rows), strict=True):
        assert torch.equal(decoded, gathered)
