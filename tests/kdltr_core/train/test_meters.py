"""Means of what steps measure."""

from __future__ import annotations

import pytest
import torch

from kdltr_core.distributed import DistributedContext
from kdltr_core.train.meters import Meters


def test_means_are_over_micro_batches_and_steps() -> None:
    meter = Meters(DistributedContext(), num_micro_batches=3)
    for losses, norm in (([3.0, 6.0, 9.0], 0.5), ([12.0, 0.0, 15.0], float("inf"))):
        for loss in losses:
            meter.add_micro_batch({"loss": torch.tensor(loss)})
        meter.end_step(torch.tensor(norm), num_images=12)
    values, bad_in_row = meter.take()
    assert values.items() >= {"loss": (6.0 + 9.0) / 2, "gradient_norm": float("inf"), "skipped_steps": 1}.items()
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
