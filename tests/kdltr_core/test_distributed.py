"""Gradients that several workers exchange, and running statistics that a non-finite step leaves alone."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Literal

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeCopyMode, FakeTensorMode

from kdltr_core.distributed import DistributedContext, RunningStatistics
from tests.kdltr_core.small import STUDENTS

EACH = torch.tensor([[1.0, 2.0, -3.0, 1e-6], [0.3, 257.0, 1e4, 0.1]])


def exchange(rank: int, rendezvous: str, folder: Path) -> None:
    dist.init_process_group("gloo", init_method=f"file://{rendezvous}", rank=rank, world_size=2)
    world = DistributedContext.current()
    flags = [world.any(flag) for flag in (False, rank == 0, rank == 1, True)]
    torch.save((world.all_reduce(EACH[rank].clone()), flags), folder / f"{rank}.pt")
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def two_workers(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[Tensor, list[bool]]]:
    folder = tmp_path_factory.mktemp("two")
    mp.spawn(exchange, (str(folder / "rendezvous"), folder), nprocs=2)
    return [torch.load(folder / f"{rank}.pt") for rank in (0, 1)]


def test_all_workers_have_the_sum(two_workers: list[tuple[Tensor, list[bool]]]) -> None:
    for sums, _ in two_workers:
        torch.testing.assert_close(sums, EACH.sum(dim=0), rtol=0, atol=0)


def test_a_flag_of_any_worker_is_seen_by_all(two_workers: list[tuple[Tensor, list[bool]]]) -> None:
    assert [flags for _, flags in two_workers] == [[False, True, True, True]] * 2
    assert [DistributedContext().any(flag) for flag in (False, True)] == [False, True]


def student_with_statistics() -> tuple[nn.Module, dict[str, Tensor]]:
    torch.manual_seed(0)
    student = STUDENTS["matrn"]().train()
    student(torch.rand(2, 3, 16, 64))
    return student, {name: buffer.clone() for name, buffer in student.named_buffers()}


def differing(module: nn.Module, before: dict[str, Tensor]) -> set[str]:
    return {name for name, buffer in module.named_buffers() if not torch.equal(buffer, before[name])}


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), 1e38])
@pytest.mark.parametrize("always", [True, torch.tensor(True)], ids=["True", "tensor"])
def test_a_non_finite_step_leaves_the_running_statistics_bitwise_alone(
    bad: float, always: Literal[True] | Tensor
) -> None:
    student, before = student_with_statistics()
    statistics = RunningStatistics(student)
    norms = {name for name in before if name.endswith(("running_mean", "running_var", "num_batches_tracked"))}
    statistics.remember()
    student(torch.full((2, 3, 16, 64), bad))
    assert differing(student, before) == norms
    statistics.restore_where(always)
    assert differing(student, before) == set()

    statistics.remember()
    student(torch.rand(2, 3, 16, 64))
    statistics.restore_where(torch.tensor(False))
    assert differing(student, before) == norms
    assert all(buffer.isfinite().all() for buffer in student.buffers())


def test_restoring_reads_no_value() -> None:
    mode = FakeTensorMode(allow_non_fake_inputs=True)
    with FakeCopyMode(mode):
        student = copy.deepcopy(STUDENTS["abinet_vision"]().train())
    with mode:
        statistics = RunningStatistics(student)
        statistics.remember()
        student(torch.rand(2, 3, 16, 64))
        statistics.restore_where(~torch.isfinite(torch.rand(())))


def test_a_family_without_batch_norm_has_nothing_to_remember() -> None:
    statistics = RunningStatistics(STUDENTS["parseq_tiny"]())
    statistics.remember()
    statistics.restore_where(torch.tensor(True))
