"""Means of what steps measure: the same whoever computed which micro-batch."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from kdltr_core.distributed import DistributedContext
from kdltr_core.train.meters import Meters

NUM_MICRO_BATCHES = 3
# By step and micro-batch; and by step the gradient's norm, which all workers know alike.
LOSSES = [[3.0, 6.0, 9.0], [12.0, 0.0, 15.0]]
NORMS = [0.5, float("inf")]
EXPECTED = {"loss": (6.0 + 9.0) / 2, "gradient_norm": float("inf"), "skipped_steps": 1}


def feed(meter: Meters, numbers: range) -> None:
    for losses, norm in zip(LOSSES, NORMS, strict=True):
        for number in numbers:
            meter.add_micro_batch({"loss": torch.tensor(losses[number])})
        meter.end_step(torch.tensor(norm), num_images=12)


def work(rank: int, rendezvous: str, folder: Path) -> None:
    dist.init_process_group("gloo", init_method=f"file://{rendezvous}", rank=rank, world_size=2)
    meter = Meters(DistributedContext.current(), NUM_MICRO_BATCHES)
    feed(meter, range(rank, NUM_MICRO_BATCHES, 2))
    torch.save(meter.take(), folder / f"{rank}.pt")
    dist.destroy_process_group()


@pytest.mark.parametrize("num_workers", [1, 2])
def test_means_do_not_depend_on_who_computes_which_micro_batch(num_workers: int, tmp_path: Path) -> None:
    if num_workers == 1:
        meter = Meters(DistributedContext(), NUM_MICRO_BATCHES)
        feed(meter, range(NUM_MICRO_BATCHES))
        taken = [meter.take()]
    else:
        mp.spawn(work, (str(tmp_path / "rendezvous"), tmp_path), nprocs=2)
        taken = [torch.load(tmp_path / f"{rank}.pt", weights_only=False) for rank in (0, 1)]
    for values, bad_in_row in taken:
        assert values.items() >= EXPECTED.items()
        assert bad_in_row == 1


def test_each_taking_begins_anew_but_skipped_steps_are_those_of_the_run() -> None:
    meter = Meters(DistributedContext(), 1)
    for norm in (float("nan"), 1.0, 2.0):
        meter.add_micro_batch({"loss": torch.tensor(8.0)})
        meter.end_step(torch.tensor(norm), 1)
    assert meter.take()[0]["loss"] == 8.0
    meter.add_micro_batch({"loss": torch.tensor(2.0)})
    meter.end_step(torch.tensor(3.0), 1)
    values, _ = meter.take()
    assert (values["loss"], values["gradient_norm"], values["skipped_steps"]) == (2.0, 3.0, 1)


@pytest.mark.parametrize(
    ("norms", "in_row"), [([float("nan")] * 3, 3), ([float("inf"), 1.0], 0), ([float("nan"), 1.0, float("inf")], 1)]
)
def test_bad_steps_in_a_row_are_counted_across_takings(norms: list[float], in_row: int) -> None:
    meter = Meters(DistributedContext(), 1)
    bad_in_row = -1
    for norm in norms:
        meter.add_micro_batch({"loss": torch.tensor(1.0)})
        meter.end_step(torch.tensor(norm), 1)
        _, bad_in_row = meter.take()
    assert bad_in_row == in_row


def test_images_per_second_are_of_what_was_trained_since_the_clock_was_restarted() -> None:
    meter = Meters(DistributedContext(), 1)
    for restarts in (False, True):
        meter.add_micro_batch({"loss": torch.tensor(1.0)})
        meter.end_step(torch.tensor(1.0), 24)
        if restarts:  # a validation, which is not training
            meter.restart_clock()
        assert ("images_per_second" in meter.take()[0]) == (not restarts)
