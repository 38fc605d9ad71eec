from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import pytest
import torch

from kdltr_core.charset import Charset36
from kdltr_core.data.batch import Batch, encode_targets
from kdltr_core.data.dataset import TrainingPairs
from kdltr_core.data.loader import degradation_seeds, training_batches
from kdltr_core.data.pack import build_pack
from kdltr_core.data.sampler import EpochSampler
from tests.kdltr_core.data.sets import single_records, write_records

LABELS = ["a", "bc", "def", "ghij", "klmno", "pqrstu", "vwx's", "y", "zz", "0123456789"]


@pytest.fixture
def pairs(tmp_path: Path) -> TrainingPairs:
    pack = build_pack(write_records(tmp_path / "set", single_records(LABELS)), cache_folder=tmp_path / "cache")
    return TrainingPairs([pack], np.arange(len(pack)), "published")


def all_batches(pairs: TrainingPairs, **options: int) -> list[tuple[int, Batch]]:
    given = {"seed": 1, "num_steps": 12} | options
    return list(training_batches(pairs, EpochSampler(len(pairs), 4, seed=2), Charset36, **given))


def assert_same(one: Batch, other: Batch) -> None:
    assert one.labels == other.labels
    for name in ("high_res", "low_res", "targets", "lengths"):
        assert torch.equal(getattr(one, name), getattr(other, name))


def test_steps_come_in_order_with_the_samplers_rows(pairs: TrainingPairs) -> None:
    sampler = EpochSampler(len(pairs), 4, seed=2)
    batches = all_batches(pairs)
    assert [step for step, _ in batches] == list(range(12))
    for step, batch in batches:
        indices, epochs = sampler.indices(step)
        assert batch.labels == tuple(LABELS[i] for i in indices)
        high_res, low_res = pairs.gather(indices, degradation_seeds(1, epochs, indices))
        targets, lengths = encode_targets(batch.labels, Charset36)
        assert_same(batch, Batch(high_res, low_res, batch.labels, targets, lengths, indices))


def test_a_resumed_loader_goes_on_as_an_uninterrupted_one(pairs: TrainingPairs) -> None:
    """Even in the middle of an epoch."""
    whole = all_batches(pairs)
    for start in (1, 7):
        rest = all_batches(pairs, start_step=start)
        assert [step for step, _ in rest] == list(range(start, 12))
        for (_, expected), (_, found) in zip(whole[start:], rest, strict=True):
            assert_same(expected, found)


@pytest.mark.parametrize("world_size", [2, 4])
def test_ranks_share_the_global_batch_without_overlap_and_agree_on_its_width(
    pairs: TrainingPairs, world_size: int
) -> None:
    whole = all_batches(pairs)
    shares = [all_batches(pairs, rank=rank, world_size=world_size) for rank in range(world_size)]
    for step, batch in whole:
        for rank in range(world_size):
            share = shares[rank][step][1]
            rows = slice(rank, None, world_size)
            columns = (batch.high_res, batch.low_res, batch.labels, batch.targets, batch.lengths, batch.indices)
            expected = Batch(*(column[rows] for column in columns))
            assert_same(share, expected)


def test_degradation_is_another_in_every_epoch_for_every_row_and_seed() -> None:
    epochs, rows = (grid.ravel() for grid in np.meshgrid(np.arange(50), np.arange(200)))
    seeds = np.concatenate([degradation_seeds(seed, epochs, rows) for seed in range(3)])
    assert len(np.unique(seeds)) == 3 * 50 * 200
    some = degradation_seeds(1, np.array([3]), np.array([5]))
    assert some == degradation_seeds(1, np.array([2, 3]), np.array([9, 5]))[1]


def loader_threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("ahead")]


def test_of_fixed_shapes_there_are_few_and_what_counts_is_the_same(pairs: TrainingPairs) -> None:
    """Words of up to nine characters take ten steps, and all batches of one width as many rows, −1 behind the valid."""
    plain, fixed = ([batch for _, batch in all_batches(pairs, with_fixed_shapes=flag)] for flag in (False, True))
    assert {batch.targets.shape for batch in fixed} == {(4, 11), (4, 15)}
    assert len({(batch.targets.shape, batch.rows.shape) for batch in fixed}) == 2
    for expected, found in zip(plain, fixed, strict=True):
        width = expected.targets.shape[1]
        assert torch.equal(found.targets[:, :width], expected.targets)
        valid = found.rows[found.rows >= 0]
        steps, expected_steps = found.targets.shape[1] - 1, width - 1
        places = [(row // steps, row % steps) for row in valid.tolist()]
        assert places == [(r // expected_steps, r % expected_steps) for r in expected.rows[expected.rows >= 0].tolist()]


def test_closing_the_iterator_ends_its_threads(pairs: TrainingPairs) -> None:
    sampler = EpochSampler(len(pairs), 4)
    batches = training_batches(pairs, sampler, Charset36, seed=0, num_steps=10**9)
    next(batches)
    assert loader_threads()
    batches.close()  # type: ignore[attr-defined]
    assert not loader_threads()


def test_only_a_few_batches_are_made_ahead(pairs: TrainingPairs) -> None:
    made: list[int] = []

    class Counting(EpochSampler):
        def indices(self, step: int) -> tuple[np.ndarray, np.ndarray]:
            made.append(step)
            return super().indices(step)

    batches = training_batches(pairs, Counting(len(pairs), 4), Charset36, seed=0, num_steps=1000)
    next(batches)
    batches.close()  # type: ignore[attr-defined]
    assert max(made) <= 5


def test_an_error_in_a_thread_reaches_the_consumer_in_its_place(
    pairs: TrainingPairs, monkeypatch: pytest.MonkeyPatch
) -> None:
    gather, broken = pairs.gather, EpochSampler(len(pairs), 4, seed=2).indices(3)[0]

    def failing(indices: np.ndarray, seeds: np.ndarray | None = None) -> tuple[torch.Tensor, torch.Tensor]:
        if (indices == broken).all():
            raise OSError("the disk is gone")
        return gather(indices, seeds)

    monkeypatch.setattr(pairs, "gather", failing)
    batches = training_batches(pairs, EpochSampler(len(pairs), 4, seed=2), Charset36, seed=1, num_steps=12)
    assert [next(batches)[0] for _ in range(3)] == [0, 1, 2]
    with pytest.raises(OSError, match="the disk is gone"):
        next(batches)
    assert not loader_threads()
