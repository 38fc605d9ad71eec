"""The order in which samples are seen."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np


@dataclass(frozen=True)
class EpochSampler:
    """Batches cut from an endless stream of permutations, one for each epoch.

    Every sample comes exactly once per epoch and none is dropped: a batch may straddle two epochs. A batch is a pure
    function of its step, so a run is resumed by its step number alone.
    """

    num_samples: int
    batch_size: int
    seed: int = 0

    @property
    def steps_per_epoch(self) -> float:
        return self.num_samples / self.batch_size

    def indices(self, step: int) -> tuple[np.ndarray, np.ndarray]:
        """Which samples step ``step`` (from 0) sees, (batch_size,) int64, and in which epoch of theirs, likewise."""
        positions = np.arange(step * self.batch_size, (step + 1) * self.batch_size, dtype=np.int64)
        epochs, places = np.divmod(positions, self.num_samples)
        indices = np.empty_like(positions)
        for epoch in np.unique(epochs):
            here = epochs == epoch
            indices[here] = _order(self.num_samples, self.seed, int(epoch))[places[here]]
        return indices, epochs


@lru_cache(maxsize=4)
def _order(num_samples: int, seed: int, epoch: int) -> np.ndarray:
    order = np.random.default_rng((seed, epoch)).permutation(num_samples)
    order.setflags(write=False)
    return order
