"""Batches, made ahead of the step that needs them by threads of the same process."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

import numpy as np
from torch import Tensor

from kdltr_core.charset import Charset
from kdltr_core.data.batch import Batch, encode_targets
from kdltr_core.data.pack import Pairs
from kdltr_core.data.sampler import EpochSampler
from kdltr_core.data.words import TrainingPairs

Job = TypeVar("Job")
Result = TypeVar("Result")


def training_batches(
    pairs: TrainingPairs,
    sampler: EpochSampler,
    charset: Charset,
    *,
    seed: int,
    rank: int = 0,
    world_size: int = 1,
    start_step: int = 0,
    num_steps: int,
    num_output_steps: int | None = None,
    num_threads: int = 1,
) -> Iterator[tuple[int, Batch]]:
    """This worker's share of every step's batch, in order: rows rank, rank + world_size, … of the global batch.

    What a step brings depends on nothing but the arguments and the step: not on the threads, nor on where the run
    was resumed, and all workers' targets are equally wide. An error in a thread is raised here; closing the iterator
    ends the threads.

    Args:
        pairs: as many as the sampler counts.
        sampler: of global batches.
        charset: the recognizer's alphabet.
        seed: of the degradation, with each pair's index and epoch.
        start_step: the first step, counted from 0.
        num_steps: the step to stop before.
        num_output_steps: T of the targets; None: what the longest label of the global batch needs.
        num_threads: batches are made by so many threads.

    Yields: the step and its batch.
    """

    def make(step: int) -> tuple[int, Batch]:
        indices, epochs = sampler.indices(step)
        num_needed = num_output_steps or max(len(charset.normalise(pairs.labels[i])) for i in indices) + 1
        indices, epochs = indices[rank::world_size], epochs[rank::world_size]
        high_res, low_res = pairs.gather(indices, degradation_seeds(seed, epochs, indices))
        labels = tuple(pairs.labels[i] for i in indices)
        return step, Batch(high_res, low_res, labels, *encode_targets(labels, charset, num_needed), indices)

    return _ahead(make, range(start_step, num_steps), num_threads)


def evaluation_batches(
    pack: Pairs, batch_size: int, rank: int = 0, world_size: int = 1
) -> Iterator[tuple[np.ndarray, Tensor, Tensor]]:
    """This worker's share of a set, in order: rows rank, rank + world_size, …; over all workers each row once.

    Yields: indices (N,), high_res (N, 3, 32, 128) uint8, low_res (N, 3, 16, 64) uint8, N ≤ batch_size.
    """
    mine = np.arange(rank, len(pack), world_size)
    parts = [mine[start : start + batch_size] for start in range(0, len(mine), batch_size)]
    return _ahead(lambda indices: (indices, *pack.gather(indices)), parts, num_threads=1)


def degradation_seeds(seed: int, epochs: np.ndarray, indices: np.ndarray) -> np.ndarray:
    """(N,) uint64, one for every pair in every epoch: a mixture (splitmix64's) of the three numbers."""
    with np.errstate(over="ignore"):
        mixed = _mix(np.full(len(indices), seed, np.uint64))
        mixed = _mix(mixed ^ np.asarray(epochs, np.uint64))
        return _mix(mixed ^ np.asarray(indices, np.uint64))


def _mix(x: np.ndarray) -> np.ndarray:
    x = x + np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def _ahead(make: Callable[[Job], Result], jobs: Iterable[Job], num_threads: int) -> Iterator[Result]:
    """``make`` of every job, in order, worked out by threads that are at most two results each ahead."""
    waiting: deque[Future[Result]] = deque()
    with ThreadPoolExecutor(num_threads, thread_name_prefix="loader") as threads:
        try:
            for job in jobs:
                waiting.append(threads.submit(make, job))
                if len(waiting) > 2 * num_threads:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()
