"""The plain ways of doing what this package does in batches: only what benchmark.py measures against."""

from __future__ import annotations

import heapq

import numpy as np
import torch
from torch import Tensor

from kdltr_core.config import HIGH_RES_SIZE, LOW_RES_SIZE
from kdltr_core.data.images import decode_image, resize
from kdltr_core.data.lmdb_store import LmdbStore
from kdltr_core.losses.sequence_targets import END_ID, SequenceTargets


def decode_pairs(store: LmdbStore, numbers: np.ndarray) -> tuple[Tensor, Tensor]:
    """What ``Pack.gather`` returns, for samples by their 1-based numbers: read, decoded and resized one by one."""
    sides: tuple[list[np.ndarray], list[np.ndarray]] = ([], [])
    for i in numbers.tolist():
        high, low = (store.high_res(i), store.low_res(i)) if store.kind == "paired" else (store.image(i),) * 2
        for side, data, size in zip(sides, (high, low), (HIGH_RES_SIZE, LOW_RES_SIZE), strict=True):
            side.append(resize(decode_image(data, store.image_key(i)), size).transpose(2, 0, 1))
    high_res, low_res = (torch.from_numpy(np.stack(side)) for side in sides)
    return high_res, low_res


def search_sequence_targets(
    probs: Tensor, num_paths: int = 6, branching: int = 3, max_expansions: int | None = None
) -> SequenceTargets:
    """What ``sequence_targets`` computes, one word at a time with a priority queue.

    Best first by probability / (length that the path has at least), which no continuation can exceed: paths leave the
    queue in the order of their rank. Exact where ``max_expansions`` is None. With a limit, as published, the paths
    found until then are ranked, and where none ended by then the best unfinished one stands in.
    """
    distribution, lengths, best = np.zeros(probs.shape, np.float32), [], []
    top_probs, top_classes = (x.tolist() for x in probs.float().topk(min(branching, probs.shape[-1]), dim=-1))
    for word in range(len(probs)):
        paths = _search(top_probs[word], top_classes[word], num_paths, max_expansions)
        total = sum(probability for probability, _ in paths)
        for probability, path in paths:
            for step in range(probs.shape[1]):
                distribution[word, step, path[step] if step < len(path) else END_ID] += probability / total
        lengths.append(len(paths[0][1]))
        best.append(paths[0][0])
    return SequenceTargets(torch.from_numpy(distribution), torch.tensor(lengths), torch.tensor(best))


def _search(
    top_probs: list[list[float]], top_classes: list[list[int]], num_paths: int, max_expansions: int | None
) -> list[tuple[float, tuple[int, ...]]]:
    num_steps = len(top_probs)
    queue: list[tuple[float, float, tuple[int, ...]]] = [(-1.0, 1.0, ())]
    found: list[tuple[float, tuple[int, ...]]] = []
    num_expanded = 0
    while queue and len(found) < num_paths and num_expanded != max_expansions:
        _, probability, path = heapq.heappop(queue)
        if len(path) == num_steps or (path and path[-1] == END_ID):
            found.append((probability, path))
            continue
        num_expanded += 1
        step = len(path)
        for share, character in zip(top_probs[step], top_classes[step], strict=True):
            length = step + 1 if character == END_ID else min(step + 2, num_steps)
            joint = probability * share
            heapq.heappush(queue, (-joint / length, joint, (*path, character)))
    return found or [(queue[0][1], queue[0][2])]
