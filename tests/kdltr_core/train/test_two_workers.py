"""Two workers train and read what one does, with every family's running statistics and exchanged gradients."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import Tensor, nn

from kdltr_core.config import ObjectiveConfig, RunConfig
from kdltr_core.data.batch import valid_rows
from kdltr_core.data.dataset import load_datasets
from kdltr_core.distributed import DistributedContext
from kdltr_core.inference.weights_files import load_recognizer
from kdltr_core.recognizers.matrn import SemanticVisual
from kdltr_core.recognizers.registry import charset_of
from kdltr_core.train.checkpoint import read_checkpoint
from kdltr_core.train.distiller import Distiller, teach
from kdltr_core.train.optim import Gradients
from kdltr_core.train.step import unused_parameters
from tests.kdltr_core.lively import lively_student
from tests.kdltr_core.small import STUDENTS, TEACHERS, build_small, drawn_batch, read_words
from tests.kdltr_core.train import runs
from tests.kdltr_core.train.runs import assert_same, leaves, run, write_words

FAMILIES = ("parseq_tiny", "abinet", "matrn")
STATISTICS = ("running_mean", "running_var", "num_batches_tracked")


@pytest.fixture(scope="module")
def roots(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_words(tmp_path_factory.mktemp("words"), *FAMILIES)


def config_of(roots: Path, family: str) -> RunConfig:
    short = {"workers": 2, "num_steps": 2, "checkpoint_every": 1, "keep_last": 9}
    names = {"recognizer__name": family, "recognizer__teacher_weights": str(roots / f"{family}-0.pt")}
    return runs.config_of(roots, **names, **short)


def weights_at(folder: Path, step: int) -> dict[str, Tensor]:
    return read_checkpoint(folder / f"checkpoints/step-{step:08d}")["distiller"]


def gradients(
    family: str, world: DistributedContext, rows: slice, fixed_statistics: bool, by_ddp: bool = False
) -> dict[str, Tensor]:
    """Of some of six words, joined with the other workers' as a step, or torch, does it."""
    torch.manual_seed(0)
    distiller, teacher = Distiller(STUDENTS[family](), ObjectiveConfig()).train(), TEACHERS[family]().eval()
    for module in distiller.modules():
        if fixed_statistics and isinstance(module, nn.BatchNorm2d):
            module.eval()
        if isinstance(module, SemanticVisual):
            module.training = False  # what it hides is drawn by each worker for itself
    high_res, low_res, targets, lengths, orders = drawn_batch(distiller.student, *runs.LABELS[:6], num_orders=6)
    num_valid = world.all_reduce(lengths[rows].sum().float()) / world.size
    contrasted = valid_rows(lengths[rows], targets.shape[1] - 1, 3)
    taught = teach(teacher, high_res[rows], targets[rows], orders)
    given = low_res[rows], targets[rows], lengths[rows], orders, taught, num_valid, contrasted
    torch.manual_seed(1)
    loss = distiller(*given).total
    for name in unused_parameters(distiller, loss):
        distiller.get_parameter(name).requires_grad_(False)
    if by_ddp:
        model = nn.parallel.DistributedDataParallel(distiller)  # which has to live until the backward
        torch.manual_seed(1)
        model(*given).total.backward()
    else:
        joined = Gradients(distiller)
        joined.add(loss / world.size)
        world.all_reduce(joined.joined)
    return {name: p.grad.clone() for name, p in distiller.named_parameters() if p.grad is not None}


def read_all(roots: Path, world: DistributedContext) -> list[str]:
    """The benchmark's words; all workers but the first begin with other running statistics."""
    student = lively_student("abinet_vision")
    for name, buffer in student.named_buffers():
        if name.endswith("running_mean") and world.rank:
            buffer.normal_()
    words = load_datasets(config_of(roots, "abinet").data, student.charset).benchmarks["benchmark"]
    assert len(words) % 2 == 1  # an uneven share must not be padded
    return read_words(student, words, "low_res", batch_size=3, world=world)


def work(rank: int, rendezvous: str, roots: Path, folder: Path) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{rendezvous}", rank=rank, world_size=2)
    world, found = DistributedContext.current(), {}
    with warnings.catch_warnings(), pytest.MonkeyPatch.context() as monkeypatch:
        warnings.simplefilter("error")
        build_small(monkeypatch, dropout=0.1)
        for family in FAMILIES:
            result, records = run(config_of(roots, family), folder / family, world=world)
            mine = slice(3 * rank, 3 * rank + 3)
            found[family] = {"result": vars(result), "records": records.values}
            found[family]["gradients"] = gradients(family, world, mine, fixed_statistics=True)
            for by_ddp in (False, True):
                found[family][f"by ddp {by_ddp}"] = gradients(family, world, mine, False, by_ddp)
        found["readings"] = read_all(roots, world)
    torch.save(found, folder / f"found-{rank}.pt")
    dist.barrier()
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def two_workers(roots: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Any]]:
    """Their runs' folder, and what each found."""
    folder = tmp_path_factory.mktemp("two")
    mp.spawn(work, (str(folder / "rendezvous"), roots, folder), nprocs=2)
    return folder, [torch.load(folder / f"found-{rank}.pt") for rank in (0, 1)]


@pytest.mark.parametrize("family", FAMILIES)
def test_gradients_added_up_in_one_piece_are_those_of_distributed_data_parallel(
    family: str, two_workers: tuple[Path, list[Any]]
) -> None:
    for found in two_workers[1]:
        assert_same(found[family]["by ddp False"], found[family]["by ddp True"])


@pytest.mark.parametrize("family", FAMILIES)
def test_gradients_of_two_workers_are_those_of_one_on_the_joined_batch(
    family: str, two_workers: tuple[Path, list[Any]]
) -> None:
    alone = gradients(family, DistributedContext(), slice(0, 6), fixed_statistics=True)
    for found in two_workers[1]:
        together = found[family]["gradients"]
        assert together.keys() == alone.keys()
        for name, value in alone.items():
            tolerance = 1e-4 * float(value.abs().max()) + 1e-6
            torch.testing.assert_close(together[name], value, rtol=1e-3, atol=tolerance, msg=name)


@pytest.mark.parametrize("family", FAMILIES)
def test_one_worker_that_computes_both_shares_ends_where_two_workers_end(
    family: str, two_workers: tuple[Path, list[Any]], roots: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The two agree, the first alone records for both, and the running statistics are those of its share."""
    folder, (first, second) = two_workers
    assert first[family]["result"] == second[family]["result"]
    assert (list(first[family]["records"]), second[family]["records"]) == ([0, 1, 2], {})
    build_small(monkeypatch, dropout=0.1)
    assert load_recognizer(folder / family).charset is charset_of(config_of(roots, family))
    recorded = run(config_of(roots, family), tmp_path)[1].values[1]
    assert leaves(first[family]["records"][1]) == pytest.approx(leaves(recorded), rel=1e-3)
    start, once, alone = (weights_at(tmp_path, step) for step in (0, 1, 2))
    once_together, together = (weights_at(folder / family, step) for step in (1, 2))
    for name in once:
        if name.endswith(STATISTICS):
            torch.testing.assert_close(
                once_together[name], once[name], rtol=1e-4, atol=1e-6, msg=lambda text, n=name: f"{n}: {text}"
            )
    # Adam's first steps go by the sign of the gradient, so what two workers round differently may part by a step.
    rate, far, moved, size = 1e-4, 0, 0, 0
    for name, value in alone.items():
        if name.endswith(STATISTICS):
            continue
        apart = (together[name] - value).abs()
        assert float(apart.max()) <= 4 * rate, name
        far += int((apart > 0.02 * rate).sum())
        moved += int(((value - start[name]).abs() > 0.5e-4).sum())
        size += value.numel()
    assert far < 1e-3 * size
    assert moved > 0.5 * size


def test_both_workers_read_every_word_with_the_statistics_of_the_first(
    two_workers: tuple[Path, list[Any]], roots: Path
) -> None:
    alone = read_all(roots, DistributedContext())
    assert len(set(alone)) > 1
    assert [found["readings"] for found in two_workers[1]] == [alone, alone]
