"""What a worker says at the start of a run, and records of its machine."""

from __future__ import annotations

import pytest

from kdltr_core.train.engine import FitResult
from pipelines.ray_train.worker import end_sentence, start_sentence, system_metrics


@pytest.mark.parametrize(
    ("step", "size", "workers", "said"),
    [
        (0, 1, 1, ""),
        (8, 2, 2, "resuming from step 8 on 2 workers"),
        (8, 3, 8, "resuming from step 8 on 3 of 8 workers: each computes up to 3 micro-batches of every batch"),
    ],
)
def test_where_a_group_of_workers_begins_and_how_many_they_are_is_said(
    step: int, size: int, workers: int, said: str
) -> None:
    assert start_sentence(step, size, workers).removesuffix(", the result is the same") == said


@pytest.mark.parametrize(("step", "best", "is_said"), [(8, 0, True), (8, 4, False), (0, 0, False)])
def test_a_training_that_made_nothing_better_is_told_so(step: int, best: int, is_said: bool) -> None:
    sentence = end_sentence(FitResult(step, best, 50.0, 0))
    assert ("what is kept is the start" in sentence) == is_said == bool(sentence)


def test_the_machine_is_recorded_under_the_names_of_mlflows_own_monitor() -> None:
    """Its page of system metrics shows what begins with "system/"."""
    from mlflow.system_metrics.metrics.cpu_monitor import CPUMonitor

    monitor = CPUMonitor()
    monitor.collect_metrics()
    theirs = {f"system/{name}": value for name, value in monitor.aggregate_metrics().items()}
    ours = system_metrics()
    assert set(ours) >= set(theirs)
    used = "system/system_memory_usage_megabytes"
    assert ours[used] == pytest.approx(theirs[used], rel=0.2)
