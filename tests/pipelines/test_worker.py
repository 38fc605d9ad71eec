"""What a worker records at the end of a run."""

from __future__ import annotations

from kdltr_core.readings import STUDENT_LOW_RES, TEACHER_ENLARGED, TEACHER_HIGH_RES
from kdltr_core.report import BenchmarkTable
from pipelines.worker import table_metrics

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
