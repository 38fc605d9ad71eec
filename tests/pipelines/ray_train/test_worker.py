"""What a worker says at the start of a run, and records at its end."""

from __future__ import annotations

import pytest

from kdltr_core.evaluation.table import STUDENT_LOW_RES, TEACHER_ENLARGED, TEACHER_HIGH_RES, BenchmarkTable
from pipelines.ray_train.worker import start_sentence, table_metrics

LABELS = ["stop", "open", "taxi", "sale"]


def test_what_was_trained_is_recorded_as_the_best_of_the_run_and_a_given_teacher_is_not() -> None:
    readings = {TEACHER_HIGH_RES: LABELS, TEACHER_ENLARGED: ["stop", "open", "", ""], STUDENT_LOW_RES: ["stop", *"abc"]}
    distilled = table_metrics(BenchmarkTable.build({"signs": LABELS}, {"signs": readings}))
    assert {name: value for name, value in distilled.items() if name.startswith("benchmark/signs/")} == {
        "benchmark/signs/teacher_high_res": 100.0,
        "benchmark/signs/teacher_enlarged": 50.0,
        "benchmark/signs/best_student_low_res": 25.0,
    }
    del readings[STUDENT_LOW_RES]
    trained = table_metrics(BenchmarkTable.build({"signs": LABELS}, {"signs": readings}), "teacher")
    assert trained == {
        f"benchmark/{name}/best_teacher_{image}": share
        for name in ("signs", "weighted_mean")
        for image, share in (("high_res", 100.0), ("enlarged", 50.0))
    }


@pytest.mark.parametrize(
    ("step", "size", "workers", "said"),
    [
        (0, 1, 1, ""),
        (8, 1, 1, "resuming from step 8"),
        (0, 2, 2, "beginning on 2 workers"),
        (8, 2, 2, "resuming from step 8 on 2 workers"),
        (8, 3, 8, "resuming from step 8 on 3 of 8 workers: each computes up to 3 micro-batches of every batch"),
        (0, 1, 2, "beginning on 1 of 2 workers: each computes up to 2 micro-batches of every batch"),
    ],
)
def test_where_a_group_of_workers_begins_and_how_many_they_are_is_said(
    step: int, size: int, workers: int, said: str
) -> None:
    assert start_sentence(step, size, workers).removesuffix(", the result is the same") == said
