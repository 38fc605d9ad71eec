"""Reading a set: every word once, whoever reads it."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

from kdltr_core.distributed import DistributedContext
from kdltr_core.inference.batched import WordBatch, read_set
from tests.pipelines.report.made import Stripes


@pytest.mark.parametrize("num_workers", [1, 2, 3, 16])
@pytest.mark.parametrize("rows", [None, np.array([3, 1, 20, 8])])
def test_every_word_that_is_asked_for_is_read_by_one_worker_and_is_in_its_place_with_all(
    num_workers: int, rows: np.ndarray | None
) -> None:
    asked = list(range(21)) if rows is None else rows.tolist()
    gathered: dict[int, Any] = {}
    meeting = threading.Barrier(num_workers)
    read_rows: list[int] = []

    class Worker(DistributedContext):
        def gather(self, value: Any) -> list[Any]:
            gathered[self.rank] = value
            meeting.wait(20)
            return [gathered[rank] for rank in range(self.size)]

    def read(batch: WordBatch) -> list[tuple[int, int]]:
        assert 1 <= len(batch.indices) <= 4
        read_rows.extend(batch.indices.tolist())
        return list(zip(batch.indices.tolist(), batch.low_res[:, 0, 0, 0].tolist(), strict=True))

    pairs = Stripes("words", ["word"] * 21)  # the first pixel is the row
    with ThreadPoolExecutor(num_workers) as threads:
        workers = [Worker(rank, num_workers) for rank in range(num_workers)]
        read_by = list(threads.map(lambda w: read_set(read, pairs, batch_size=4, rows=rows, world=w), workers))
    assert read_by == [[(row, row) for row in asked]] * num_workers
    assert sorted(read_rows) == sorted(asked)
