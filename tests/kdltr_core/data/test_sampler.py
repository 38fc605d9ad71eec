from __future__ import annotations

import numpy as np
import pytest

from kdltr_core.data.sampler import EpochSampler


@pytest.mark.parametrize(("num_samples", "batch_size"), [(10, 4), (10, 5), (7, 3), (3, 8), (1, 1)])
def test_every_sample_comes_once_in_every_epoch_and_epochs_follow_each_other(num_samples: int, batch_size: int) -> None:
    sampler = EpochSampler(num_samples, batch_size, seed=3)
    num_epochs = 5
    steps = -(-num_samples * num_epochs // batch_size)
    indices, epochs = (np.concatenate(parts) for parts in zip(*map(sampler.indices, range(steps)), strict=True))
    assert epochs[: num_samples * num_epochs].tolist() == np.repeat(np.arange(num_epochs), num_samples).tolist()
    for epoch in range(num_epochs):
        assert sorted(indices[epochs == epoch][:num_samples]) == list(range(num_samples))


def test_a_batch_is_a_function_of_its_step_alone() -> None:
    """Asked backwards, again, and of another object, a step gives the same batch: so a run resumes by its step."""
    one, other = EpochSampler(37, 8, seed=5), EpochSampler(37, 8, seed=5)
    forwards = [one.indices(step) for step in range(30)]
    for step in reversed(range(30)):
        for expected, found in zip(forwards[step], other.indices(step), strict=True):
            np.testing.assert_array_equal(expected, found)


def test_epochs_and_seeds_have_orders_of_their_own() -> None:
    orders = [EpochSampler(50, 50, seed).indices(step)[0].tolist() for seed in range(3) for step in range(3)]
    assert len({tuple(order) for order in orders}) == 9


def test_steps_per_epoch_counts_parts_of_steps() -> None:
    assert EpochSampler(10, 4).steps_per_epoch == 2.5
