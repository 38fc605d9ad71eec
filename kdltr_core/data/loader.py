"""Batches, made ahead of the step that needs them."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Iterator
from functools import cache
from typing import Literal

import numpy as np
import torch

from kdltr_core.charset import Charset
from kdltr_core.data.batch import CONTRAST_GROUP, TEXT_WIDTHS, Batch, encode_targets, usual_rows, valid_rows
from kdltr_core.data.dataset import TrainingPairs
from kdltr_core.data.device_cache import DeviceCache
from kdltr_core.data.prefetch import prefetch
from kdltr_core.data.sampler import EpochSampler
from kdltr_core.seeding import splitmix64

Pixels = Literal["degraded", "packed", "none"]
# What is degraded together on the device.
_IMAGES_AT_A_TIME = 1024
# From so many, spread over the set, the usual length of its labels is taken.
_LABELS_COUNTED = 4096


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
    with_fixed_shapes: bool = False,
    pixels: Pixels = "degraded",
) -> Iterator[tuple[int, Batch]]:
    """This worker's share of every step's batch, in order: rows rank, rank + world_size, … of the global batch.

    What a step brings depends on nothing but the arguments and the step: not on where the run was
    resumed, and all workers' targets are equally wide. An error in a thread is raised here; closing the iterator
    ends the threads.

    Args:
        pairs: as many as the sampler counts.
        sampler: of global batches.
        charset: the recognizer's alphabet.
        seed: of the degradation, with each pair's index and epoch.
        start_step: the first step, counted from 0.
        num_steps: the step to stop before.
        num_output_steps: T of the targets; None: what the longest label of the global batch needs.
        with_fixed_shapes: T is one of ``TEXT_WIDTHS`` where ``num_output_steps`` is None, and M of the rows (but in
            one batch of very many) follows from T, so that a step that is recorded for every shape meets few.
        pixels: whether low_res is degraded here, or only packed, for ``on_device`` to degrade; "none": both are empty,
            for it to gather too.

    Yields: the step and its batch.
    """

    def num_characters(index: int) -> int:
        return len(charset.normalise(pairs.labels[index]))

    def num_steps_of(indices: np.ndarray) -> int:
        needed = max(map(num_characters, indices)) + 1
        return next((width for width in TEXT_WIDTHS if width >= needed), needed) if with_fixed_shapes else needed

    @cache
    def least_rows(width: int) -> int:
        if not with_fixed_shapes:
            return 0
        some = range(0, len(pairs), math.ceil(len(pairs) / _LABELS_COUNTED))
        group = min(CONTRAST_GROUP, sampler.batch_size // world_size)
        return usual_rows(np.array([num_characters(index) + 1 for index in some]), width, group)

    def make(step: int) -> tuple[int, Batch]:
        indices, epochs = sampler.indices(step)
        width = num_output_steps or num_steps_of(indices)
        indices, epochs = indices[rank::world_size], epochs[rank::world_size]
        high_res = low_res = torch.empty(0, dtype=torch.uint8)
        seeds = degradation_seeds(seed, epochs, indices)
        if pixels != "none":
            high_res, low_res = pairs.gather(indices, seeds) if pixels == "degraded" else pairs.gather_packed(indices)
        labels = tuple(pairs.labels[i] for i in indices)
        targets, lengths = encode_targets(labels, charset, width)
        rows = valid_rows(lengths, width, least=least_rows(width))
        weights = None if pairs.weights is None else torch.from_numpy(pairs.weights[indices])
        return step, Batch(high_res, low_res, labels, targets, lengths, indices, rows, weights, seeds)

    return prefetch(make, range(start_step, num_steps), num_threads=1)


def on_device(
    batches: Iterable[tuple[int, Batch]], device: torch.device, resident: DeviceCache | None = None
) -> Iterator[tuple[int, Batch]]:
    """Batches where the step computes; a GPU's next batch is copied on a stream of its own while this step runs.

    Args:
        resident: what brings their pixels, or degrades them there.
    """
    fill = resident.fill if resident else lambda batches: batches
    groups = _groups(batches, _IMAGES_AT_A_TIME if resident else 1)
    if device.type != "cuda":
        for group in groups:
            yield from zip([step for step, _ in group], fill([batch.to(device) for _, batch in group]), strict=True)
        return
    side, computing = torch.cuda.Stream(device), torch.cuda.current_stream(device)
    waiting: deque[tuple[int, Batch, torch.cuda.Event]] = deque()

    def hand_over() -> tuple[int, Batch]:
        step, batch, arrived = waiting.popleft()
        computing.wait_event(arrived)
        batch.belongs_to(computing)
        return step, batch

    for group in groups:
        with torch.cuda.stream(side):
            filled = fill([batch.pinned().to(device) for _, batch in group])
            arrived = side.record_event()
        waiting.extend((step, batch, arrived) for (step, _), batch in zip(group, filled, strict=True))
        while len(waiting) > len(group):
            yield hand_over()
    while waiting:
        yield hand_over()


def _groups(batches: Iterable[tuple[int, Batch]], num_images: int) -> Iterator[list[tuple[int, Batch]]]:
    """So many batches at a time as have that many images between them."""
    group: list[tuple[int, Batch]] = []
    for step, batch in batches:
        group.append((step, batch))
        if len(group) * len(batch.indices) >= num_images:
            yield group
            group = []
    if group:
        yield group


def degradation_seeds(seed: int, epochs: np.ndarray, indices: np.ndarray) -> np.ndarray:
    """(N,) uint64, one for every pair in every epoch: a mixture (splitmix64's) of the three numbers."""
    mixed = splitmix64(np.full(len(indices), seed, np.uint64))
    mixed = splitmix64(mixed ^ np.asarray(epochs, np.uint64))
    return splitmix64(mixed ^ np.asarray(indices, np.uint64))
