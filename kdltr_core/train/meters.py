"""Means of what a step measures, summed on the device and fetched only when they are recorded."""

from __future__ import annotations

import time
from collections.abc import Mapping

import torch
from torch import Tensor

from kdltr_core.distributed import DistributedContext


class Meters:
    """Sums over steps and micro-batches, whoever computes them."""

    def __init__(self, world: DistributedContext, num_micro_batches: int) -> None:
        self.world = world
        self.num_micro_batches = num_micro_batches
        self.num_skipped = 0
        self.bad_in_row = torch.zeros((), device=world.device)
        self.sums: dict[str, Tensor] = {}
        self.steps = 0
        self.images = 0
        self.restart_clock()

    def restart_clock(self) -> None:
        """Leave what was not training out of images per second."""
        self.since = time.perf_counter()
        self.images = 0

    def add_micro_batch(self, terms: Mapping[str, Tensor]) -> None:
        """The terms of one micro-batch; every worker has at least one a step, maybe not all as many."""
        self._sum({name: value / self.num_micro_batches for name, value in terms.items()})

    def end_step(self, norm: Tensor, num_images: int) -> None:
        """What all workers know alike: the gradient's norm, and the images of the whole batch."""
        bad = (~torch.isfinite(norm)).float()
        self.bad_in_row = (self.bad_in_row + bad) * bad
        self._sum({name: value / self.world.size for name, value in (("gradient_norm", norm), ("skipped", bad))})
        self.steps += 1
        self.images += num_images

    def take(self) -> tuple[dict[str, float], int]:
        """Means since the last time, and how many non-finite steps in a row there are."""
        names = list(self.sums)
        packed = self.world.all_reduce(torch.stack([self.sums[name].float() for name in names]))
        values = dict(zip(names, (packed / self.steps).tolist(), strict=True))
        self.num_skipped += round(values.pop("skipped") * self.steps)
        values["skipped_steps"] = self.num_skipped
        if self.images:
            values["images_per_second"] = self.images / (time.perf_counter() - self.since)
        self.sums, self.steps = {}, 0
        self.restart_clock()
        return values, int(self.bad_in_row)

    def _sum(self, values: Mapping[str, Tensor]) -> None:
        for name, value in values.items():
            self.sums[name] = self.sums.get(name, torch.zeros((), device=value.device)) + value.detach()
