"""Machines and processes die while a run of two workers trains. Run by ``make drills``, which prints what it measured.

A full disk is tests/kdltr_core/train/test_checkpoint.py and tests/kdltr_core/data/test_pack.py.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
import torch

from tests.faults.machines import SECONDS_OF_NOTICE, Machines
from tests.faults.training import CHECKPOINT_EVERY, Measured, Training
from tests.pipelines.run.test_tracking import free_port, server

pytestmark = pytest.mark.faults
STEPS = 24
LONG = 48
LARGER_BATCH = ("--optim.batch-size", "16")
# The default is a minute, in which a run of this size is over.
WIDENS_SOON = (
    "-c",
    "import sys; from pipelines import train; from pipelines.ray_train import cluster; "
    "cluster.SECONDS_BETWEEN_WIDENINGS = 5.0; sys.exit(train.main())",
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("drills")


@pytest.fixture(scope="module")
def uncorrupted(machines: Machines, folder: Path) -> Training:
    machines.have(2)
    return trained(Training(folder, machines.environment, "uncorrupted", STEPS))


@pytest.fixture(scope="module")
def long_undisturbed(machines: Machines, folder: Path) -> Training:
    """Of more and of longer steps, for what takes its time."""
    machines.have(2)
    return trained(Training(folder, machines.environment, "long", LONG, *LARGER_BATCH))


@pytest.fixture
def two_machines(machines: Machines) -> Machines:
    machines.have(2)
    return machines


def trained(training: Training) -> Training:
    training.start()
    training.finish()
    training.check_record()
    return training


def now() -> int:
    """Milliseconds, as in the metrics log."""
    return int(time.time() * 1000)


def same_weights(one: Training, other: Training) -> str:
    """Raises: AssertionError unless weights and the optimiser's state are bitwise equal."""
    weights, expected = one.weights(), other.weights()
    assert weights.keys() == expected.keys()
    assert all(torch.equal(weights[name], value) for name, value in expected.items())
    moments, expected_moments = one.optimiser()["state"], other.optimiser()["state"]
    for number, state in expected_moments.items():
        assert all(torch.equal(moments[number][name], value) for name, value in state.items())
    return "bitwise equal"


def nearly_same_weights(one: Training, other: Training) -> str:
    """Raises: AssertionError if they differ by more than sums do that were made in another order.

    Adam's first steps go by the sign of the gradient alone: where a gradient is close to nil, rounding may turn a step
    around. So the largest difference is bounded by some steps, and there must be few that are not tiny.
    """
    weights, expected = one.weights(), other.weights()
    apart = torch.cat([(weights[name] - value).abs().flatten() for name, value in expected.items()])
    step = 3e-4  # the learning rate of the recipe
    assert float(apart.max()) <= 8 * step
    assert float((apart > 0.02 * step).float().mean()) < 1e-2
    return f"{float(apart.mean()):.0e} apart in the mean, {float(apart.max()):.0e} at most"


def lost_steps(training: Training, which: int = -1, at_most: int = CHECKPOINT_EVERY) -> int:
    """Raises: AssertionError if the group went on from further back than one checkpoint."""
    came_from, reached = training.starts()[which]
    assert reached - came_from <= at_most
    return reached - came_from


def test_a_killed_worker_costs_no_more_than_a_checkpoint(
    two_machines: Machines, uncorrupted: Training, folder: Path, measured: list[Measured]
) -> None:
    training = Training(folder, two_machines.environment, "worker", STEPS)
    training.start()
    faults = []
    for which, step in ((0, 6), (1, 14)):
        training.reach(step)
        faults.append(now())
        two_machines.workers()[which].kill()
        training.wait_until(lambda: len(training.starts()) == len(faults))
        training.reach(training.step + 1)
    training.finish()
    training.check_record()
    assert training.said.count("resuming from step") == 2
    weights = same_weights(training, uncorrupted)
    for which, (fault, until) in enumerate(zip(faults, [faults[1], None], strict=True)):
        seconds = training.pause_after(fault, until)
        measured.append(Measured("kill -9 of a worker", lost_steps(training, which), seconds, weights))


def test_a_killed_driver_is_resumed_by_the_same_command_and_a_second_one_is_refused(
    two_machines: Machines, uncorrupted: Training, folder: Path, measured: list[Measured]
) -> None:
    training = Training(folder, two_machines.environment, "driver", STEPS)
    training.start()
    training.reach(6)
    twin = training.once_more()
    assert twin.returncode == 2
    assert f"another process is training in {training.folder}; wait for it, or give another --name" in twin.stderr
    fault = now()
    training.kill_driver()
    training.start()
    training.finish()
    training.check_record()
    weights, seconds = same_weights(training, uncorrupted), training.pause_after(fault)
    measured.append(Measured("kill -9 of the driver, same command again", lost_steps(training), seconds, weights))


def test_the_record_is_whole_when_the_tracking_server_was_killed_and_came_back(
    two_machines: Machines, uncorrupted: Training, folder: Path, measured: list[Measured]
) -> None:
    port = free_port()
    training = Training(folder, two_machines.environment, "server", STEPS, "--tracking-uri", f"http://127.0.0.1:{port}")
    with server(folder, port):
        training.start()
        training.reach(6)
    fault, at_work = now(), two_machines.workers()
    training.wait_until(lambda: "metrics.jsonl keeps them" in training.said)
    training.reach(12)
    assert two_machines.workers() == at_work
    with server(folder, port) as url:
        training.finish()
        # Where the run ended before the server was back, this sends what is missing; else it says that all is there.
        assert training.once_more().returncode == 0
        training.check_record(url)
    assert training.starts() == []
    weights, seconds = same_weights(training, uncorrupted), training.pause_after(fault)
    measured.append(Measured("kill -9 of the MLflow server", 0, seconds, weights))


def test_with_a_machine_gone_for_good_the_run_ends_with_one_worker_where_two_would_have_ended(
    two_machines: Machines, uncorrupted: Training, folder: Path, measured: list[Measured]
) -> None:
    training = Training(folder, two_machines.environment, "narrow", STEPS, "--min-workers", "1")
    training.start()
    training.reach(6)
    fault = now()
    two_machines.silence(two_machines.nodes[0])
    training.finish()
    training.check_record()
    assert (
        "on 1 of 2 workers: each computes up to 2 micro-batches of every batch, the result is the same" in training.said
    )
    weights, seconds = nearly_same_weights(training, uncorrupted), training.pause_after(fault)
    measured.append(Measured("a machine falls silent, --min-workers 1", lost_steps(training), seconds, weights))


def test_a_run_waits_for_machines_narrows_when_one_goes_and_widens_when_it_is_back(
    machines: Machines, long_undisturbed: Training, folder: Path, measured: list[Measured]
) -> None:
    while len(machines.nodes) > 1:
        machines.cut_the_power(machines.nodes[0])
    machines.wait_until_missed()
    options = (*LARGER_BATCH, "--min-workers", "1")
    training = Training(folder, machines.environment, "elastic", LONG, *options, script=WIDENS_SOON)
    training.start()
    training.wait_until(lambda: "1 of 2 CPUs are there; waiting up to 10 minutes for the others" in training.said)
    machines.have(2)
    training.reach(6)
    fault = now()
    machines.cut_the_power(machines.nodes[0])
    training.wait_until(lambda: training.widths()[-1:] == ["1 of 2"])
    training.reach(training.step + 1)
    back = now()
    machines.have(2)
    training.finish()
    training.check_record()
    assert training.widths()[-2:] == ["1 of 2", "2"]
    weights = nearly_same_weights(training, long_undisturbed)
    for fault_name, which, seconds in (
        ("a machine loses its power, --min-workers 1", -2, training.pause_after(fault, back)),
        ("it is back", -1, training.pause_after(back)),
    ):
        measured.append(Measured(fault_name, lost_steps(training, which), seconds, weights))


def test_with_notice_a_checkpoint_is_written_at_once_and_the_run_goes_on_elsewhere(
    machines: Machines, long_undisturbed: Training, folder: Path, measured: list[Measured]
) -> None:
    """There is no other checkpoint than that to go on from."""
    machines.have(3)
    seldom = ("--checkpoint-every", "1000", "--validate-every", "1000")
    training = Training(folder, machines.environment, "notice", LONG, *LARGER_BATCH, *seldom)
    training.start()
    training.reach(6)
    assert training.checkpoints == [0]
    fault = now()
    machines.give_notice(machines.node_of(machines.workers()[0]))
    training.wait_until(lambda: len(training.checkpoints) > 1, SECONDS_OF_NOTICE + 10)
    seconds_to_checkpoint = (now() - fault) / 1000
    training.finish()
    training.check_record(validate_every=1000)
    assert "a machine of this run is about to be taken away" in training.said
    came_from, _ = training.starts()[-1]
    assert came_from > 6
    weights, seconds = same_weights(training, long_undisturbed), training.pause_after(fault)
    name = f"notice (SIGTERM), a checkpoint after {seconds_to_checkpoint:.0f} s, gone after {SECONDS_OF_NOTICE} s"
    measured.append(Measured(name, lost_steps(training, at_most=LONG), seconds, weights))


def test_a_truncated_checkpoint_and_a_damaged_pack_are_passed_over_and_said(
    two_machines: Machines, uncorrupted: Training, folder: Path, measured: list[Measured]
) -> None:
    training = Training(folder, two_machines.environment, "damaged", STEPS)
    training.start()
    training.reach(10)
    fault = now()
    training.kill_driver()
    while two_machines.workers():
        time.sleep(0.2)
    newest = training.checkpoints[-1]
    state = training.folder / "checkpoints" / f"step-{newest:08d}" / "state.pt"
    os.truncate(state, state.stat().st_size // 2)
    (pixels,) = (folder / "cache").glob("rendered_train-*.pack/high_res")
    os.truncate(pixels, pixels.stat().st_size // 2)

    training.start()
    training.finish()
    training.check_record()
    assert (
        f"step-{newest:08d} is not what was written: its hash differs; the checkpoint before it is used"
        in training.said
    )
    assert f"{pixels.parent} is not a whole pack of this version" in training.said
    assert training.starts()[0][0] == newest - CHECKPOINT_EVERY
    weights, seconds = same_weights(training, uncorrupted), training.pause_after(fault)
    lost = lost_steps(training, 0, at_most=2 * CHECKPOINT_EVERY)
    measured.append(Measured("driver killed, newest checkpoint and pack truncated", lost, seconds, weights))


@pytest.mark.skipif(os.geteuid() != 0, reason="hiding a folder from a process needs root")
def test_a_machine_that_does_not_see_the_run_folder_is_named_before_training(machines: Machines, folder: Path) -> None:
    machines.have(1)
    blind = machines.have_a_blind_one(folder)
    refused = Training(folder, machines.environment, "unseen", STEPS).once_more()
    machines.cut_the_power(blind)
    assert refused.returncode == 2
    assert "does not see the run folder" in refused.stderr
