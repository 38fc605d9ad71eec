"""Batch norm over two workers is batch norm of the joined batch; running statistics survive a spoilt step."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeCopyMode, FakeTensorMode

from kdltr_core.batch_norm import RunningStatistics, SynchronisedBatchNorm, synchronise_batch_norm
from tests.kdltr_core.small import STUDENTS

SHARES = {"even": (slice(0, 4), slice(4, 8)), "uneven": (slice(0, 3), slice(3, 8))}


def batches() -> list[Tensor]:
    """Three batches (8, 4, 2, 5); channels of quite different mean and spread, one of them all but constant."""
    generator = torch.Generator().manual_seed(0)
    spread = torch.tensor([1.0, 0.01, 30.0, 1e-4]).view(4, 1, 1)
    mean = torch.tensor([0.0, 2.0, -50.0, 1.0]).view(4, 1, 1)
    return [mean + spread * torch.randn(8, 4, 2, 5, generator=generator) for _ in range(3)]


def filled(norm: nn.BatchNorm2d) -> nn.BatchNorm2d:
    with torch.no_grad():
        norm.weight.copy_(torch.tensor([1.0, -2.0, 0.5, 3.0]))
        norm.bias.copy_(torch.tensor([0.0, 1.0, -1.0, 2.0]))
    return norm


def trained(norm: nn.BatchNorm2d, rows: slice) -> dict[str, Tensor]:
    """Outputs, gradients and statistics of a forward and backward pass over some rows of every batch."""
    outputs, gradients = [], []
    for batch in batches():
        x = batch[rows].clone().requires_grad_()
        y = norm(x)
        # A loss of which no gradient is nil for symmetry, and whose rows weigh alike wherever they are.
        (y.square() * torch.linspace(0.1, 1, 10).view(2, 5) + y.sin()).sum().backward()
        assert x.grad is not None
        outputs.append(y.detach())
        gradients.append(x.grad)
    assert norm.weight.grad is not None
    assert norm.bias.grad is not None
    return {
        "output": torch.cat(outputs, 1),
        "input_gradient": torch.cat(gradients, 1),
        "weight_gradient": norm.weight.grad,
        "bias_gradient": norm.bias.grad,
        **{name: buffer.clone() for name, buffer in norm.named_buffers()},
    }


def work(rank: int, rendezvous: str, folder: Path) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{rendezvous}", rank=rank, world_size=2)
    for name, shares in SHARES.items():
        for momentum in (0.1, 0.5):
            norm = filled(SynchronisedBatchNorm(4, momentum=momentum))
            torch.save(trained(norm, shares[rank]), folder / f"{name}-{momentum}-{rank}.pt")
    dist.barrier()
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def two_workers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("two")
    mp.spawn(work, (str(folder / "rendezvous"), folder), nprocs=2)
    return folder


def close(actual: Tensor, expected: Tensor) -> None:
    """To float32's accuracy, of the largest value of each channel."""
    torch.testing.assert_close(actual, expected, rtol=2e-4, atol=2e-5 * max(1.0, float(expected.abs().max())))


@pytest.mark.parametrize("momentum", [0.1, 0.5])
@pytest.mark.parametrize("shares", SHARES)
def test_two_workers_normalise_as_torch_does_the_joined_batch(shares: str, momentum: float, two_workers: Path) -> None:
    expected = trained(filled(nn.BatchNorm2d(4, momentum=momentum)), slice(0, 8))
    first, second = (torch.load(two_workers / f"{shares}-{momentum}-{rank}.pt") for rank in (0, 1))
    for name in ("output", "input_gradient"):
        close(torch.cat([first[name], second[name]]), expected[name])
    for name in ("weight_gradient", "bias_gradient"):
        close(first[name] + second[name], expected[name])
    for name in ("running_mean", "running_var", "num_batches_tracked"):
        assert torch.equal(first[name], second[name])
        torch.testing.assert_close(first[name], expected[name], rtol=1e-4, atol=1e-7)


def test_the_running_variance_is_the_unbiased_one_of_the_joined_batch(two_workers: Path) -> None:
    """0.9³ · 1 + 0.1 · Σ 0.9^(2 − i) · s²ᵢ, s² with n − 1 = 79 below."""
    unbiased = [((b - b.mean((0, 2, 3), keepdim=True)) ** 2).sum((0, 2, 3)) / 79 for b in batches()]
    expected = 0.9**3 + 0.1 * (0.81 * unbiased[0] + 0.9 * unbiased[1] + unbiased[2])
    actual = torch.load(two_workers / "uneven-0.1-0.pt")["running_var"]
    torch.testing.assert_close(actual, expected, rtol=1e-5, atol=1e-7)
    biased = expected + (expected - 0.9**3) * (79 / 80 - 1)
    assert not torch.allclose(actual[2], biased[2], rtol=1e-5)


def test_alone_or_in_evaluation_it_is_torchs() -> None:
    x = batches()[0]
    ours, theirs = filled(SynchronisedBatchNorm(4)), filled(nn.BatchNorm2d(4))
    assert torch.equal(ours(x), theirs(x))
    assert torch.equal(ours.running_var, theirs.running_var)
    assert torch.equal(ours.eval()(x), theirs.eval()(x))


def test_every_batch_norm_is_exchanged_and_the_state_dict_stays_the_same() -> None:
    student = STUDENTS["matrn"]()
    for norm in student.modules():
        if isinstance(norm, nn.BatchNorm2d):
            nn.init.normal_(norm.weight)
            nn.init.uniform_(norm.running_var)
    before = {key: value.clone() for key, value in student.state_dict().items()}
    weights = {name: id(module) for name, module in student.named_modules() if not isinstance(module, nn.BatchNorm2d)}
    synchronise_batch_norm(student, torch.device("cpu"))
    kinds = {type(module) for module in student.modules() if isinstance(module, nn.BatchNorm2d)}
    assert kinds == {SynchronisedBatchNorm}
    after = student.state_dict()
    assert list(after) == list(before)
    assert all(torch.equal(after[key], value) for key, value in before.items())
    same = {name: id(module) for name, module in student.named_modules() if not isinstance(module, nn.BatchNorm2d)}
    assert same == weights


@pytest.mark.parametrize("training", [True, False])
def test_an_exchanged_norm_keeps_its_settings(training: bool) -> None:
    parent = nn.Sequential(nn.BatchNorm2d(4, eps=1e-3, momentum=0.3)).train(training)
    synchronise_batch_norm(parent, torch.device("cpu"))
    norm = parent[0]
    assert (norm.num_features, norm.eps, norm.momentum, norm.training) == (4, 1e-3, 0.3, training)


def student_with_statistics() -> tuple[nn.Module, dict[str, Tensor]]:
    torch.manual_seed(0)
    student = STUDENTS["matrn"]().train()
    student(torch.rand(2, 3, 16, 64))
    return student, {name: buffer.clone() for name, buffer in student.named_buffers()}


def differing(module: nn.Module, before: dict[str, Tensor]) -> set[str]:
    return {name for name, buffer in module.named_buffers() if not torch.equal(buffer, before[name])}


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), 1e38])
@pytest.mark.parametrize("as_given", [bool, torch.tensor], ids=["bool", "tensor"])
def test_a_spoilt_step_leaves_the_running_statistics_bitwise_alone(
    bad: float, as_given: Callable[[bool], bool | Tensor]
) -> None:
    student, before = student_with_statistics()
    statistics = RunningStatistics(student)
    norms = {name for name in before if name.endswith(("running_mean", "running_var", "num_batches_tracked"))}
    statistics.remember()
    student(torch.full((2, 3, 16, 64), bad))
    assert differing(student, before) == norms
    statistics.restore_where(as_given(True))
    assert differing(student, before) == set()

    statistics.remember()
    student(torch.rand(2, 3, 16, 64))
    statistics.restore_where(as_given(False))
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
