"""What a run came to, in a word: its headline figures and its description."""

from __future__ import annotations

import pytest

from kdltr_core.evaluation.table import STUDENT_LOW_RES, TEACHER_ENLARGED, TEACHER_HIGH_RES
from pipelines.report.summary import headline_metrics, result_markdown
from tests.kdltr_core.evaluation.tables import table_of

LABELS = ["stop", "open", "taxi", "sale"]
PREDICTIONS = {
    TEACHER_HIGH_RES: LABELS,
    TEACHER_ENLARGED: ["stop", "0", "", ""],
    STUDENT_LOW_RES: ["st", "open", "taxi", ""],
}


def test_a_student_is_held_against_the_teacher_that_reads_enlarged_images() -> None:
    table = table_of({"signs": LABELS}, {"signs": PREDICTIONS})
    assert headline_metrics(table) == {"accuracy": 50.0, "gain_over_enlarged": 25.0}
    written = result_markdown(table)
    first, second = written.splitlines()[:2]
    assert all(figure in first for figure in ("**50.0 %** of 4 words", "**+25.0 points**", "25.0 %"))
    # By hand: right alone 2 : 1, which a fair coin does every time at least as unevenly.
    assert second.startswith("Only the student is correct on 2 words, only the teacher on 1; p = 1 ")
    assert table.to_markdown() in written
    assert "`open`" in written.partition("Only the student is correct:**")[2]


def test_a_teacher_that_was_trained_is_judged_on_high_res() -> None:
    only = {column: PREDICTIONS[column] for column in (TEACHER_HIGH_RES, TEACHER_ENLARGED)}
    table = table_of({"signs": LABELS}, {"signs": only})
    assert headline_metrics(table, "teacher") == {"accuracy": 100.0}
    assert result_markdown(table, "teacher").startswith("The teacher reads **100.0 %** of 4 words from high_res images")


def test_a_student_that_is_evaluated_alone_has_no_gain() -> None:
    table = table_of({"signs": LABELS}, {"signs": {STUDENT_LOW_RES: LABELS}})
    assert headline_metrics(table) == pytest.approx({"accuracy": 100.0})
