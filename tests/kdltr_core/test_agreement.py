"""What all workers agree on: a sum in every step, and timers by the first worker's clock."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from kdltr_core import agreement
from kdltr_core.agreement import Agreement
from kdltr_core.distributed import DistributedContext

# The first worker's clock when the agreement is made, and at each of eight steps.
CLOCK = (100, 100, 109, 110, 112, 115, 122, 131, 133)
PERIODS = {"ask": 10.0, "save": 30.0, "never": 0.0}
# Due at 110 and known a step later, from which the next ten seconds count; and so on.
RINGS = [set(), set(), set(), {"ask"}, set(), set(), {"ask"}, {"save"}]


def work(rank: int, rendezvous: str, folder: Path) -> None:
    dist.init_process_group("gloo", init_method=f"file://{rendezvous}", rank=rank, world_size=2)
    hand = 0

    def tell() -> float:
        # The second worker's clock is far ahead at every step: if it counted, all timers would always ring.
        return CLOCK[hand] + 1e6 * rank * hand

    agreement.time = SimpleNamespace(monotonic=tell)  # type: ignore[assignment]
    agreed = Agreement(DistributedContext.current(), dict(PERIODS))
    answers = []
    for step in range(len(CLOCK) - 1):
        hand = step + 1
        total, rings = agreed.exchange(torch.tensor(step + 100 * rank))
        answers.append((float(total), set(rings)))
    torch.save(answers, folder / f"{rank}.pt")
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def two_workers(tmp_path_factory: pytest.TempPathFactory) -> list[list[tuple[float, set[str]]]]:
    folder = tmp_path_factory.mktemp("two")
    mp.spawn(work, (str(folder / "rendezvous"), folder), nprocs=2)
    return [torch.load(folder / f"{rank}.pt", weights_only=False) for rank in (0, 1)]


def test_timers_ring_on_all_workers_at_one_step_by_the_first_ones_clock(
    two_workers: list[list[tuple[float, set[str]]]],
) -> None:
    for answers in two_workers:
        assert [rings for _, rings in answers] == RINGS


def test_the_sum_is_over_workers_and_of_this_step(two_workers: list[list[tuple[float, set[str]]]]) -> None:
    for answers in two_workers:
        assert [total for total, _ in answers] == [2 * step + 100 for step in range(8)]


def test_one_worker_alone_agrees_with_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    hand = 0
    monkeypatch.setattr(agreement, "time", SimpleNamespace(monotonic=lambda: CLOCK[hand]))
    agreed, answers = Agreement(DistributedContext(), dict(PERIODS)), []
    for step in range(8):
        hand = step + 1
        answers.append(agreed.exchange(torch.tensor(step)))
    assert [set(rings) for _, rings in answers] == RINGS
    assert [float(total) for total, _ in answers] == list(range(8))
