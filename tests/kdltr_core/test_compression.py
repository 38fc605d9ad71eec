"""Gradients that travel as bfloat16."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import nn

from kdltr_core.distributed import DistributedContext

TOGETHER = torch.tensor([[1.0, 2.0, -3.0, 1e-6], [0.3, 257.0, 1e4, 0.1]])


def exchange(rank: int, rendezvous: str, folder: Path) -> None:
    dist.init_process_group("gloo", init_method=f"file://{rendezvous}", rank=rank, world_size=2)
    gradients = []
    for in_bfloat16 in (False, True):
        module = nn.Linear(4, 1, bias=False)
        wrapped = DistributedContext.current().wrap(module, in_bfloat16=in_bfloat16)
        wrapped(TOGETHER[rank : rank + 1]).sum().backward()
        assert module.weight.grad is not None
        gradients.append(module.weight.grad)
    torch.save(gradients, folder / f"{rank}.pt")
    dist.destroy_process_group()
    # Gloo's threads stay, and one that still has the hook's callback to let go of aborts an interpreter that is ending.
    os._exit(0)


@pytest.fixture(scope="module")
def gradients(tmp_path_factory: pytest.TempPathFactory) -> list[list[torch.Tensor]]:
    folder = tmp_path_factory.mktemp("two")
    mp.spawn(exchange, (str(folder / "rendezvous"), folder), nprocs=2)
    return [torch.load(folder / f"{rank}.pt") for rank in (0, 1)]


def test_the_mean_is_off_by_no_more_than_its_roundings(gradients: list[list[torch.Tensor]]) -> None:
    plain, rounded = gradients[0]
    torch.testing.assert_close(plain, TOGETHER.mean(dim=0, keepdim=True))
    # Two halves and their sum are each rounded to eight bits.
    torch.testing.assert_close(rounded, plain, rtol=3 * 2**-9, atol=0)
    assert not torch.equal(rounded, plain)


def test_all_workers_have_the_same(gradients: list[list[torch.Tensor]]) -> None:
    assert torch.equal(gradients[0][1], gradients[1][1])
