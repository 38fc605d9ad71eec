"""What the report is called."""

import pytest

from kdltr_core.evaluation.benchmarks import BenchmarkReader
from kdltr_core.evaluation.table import TEACHER_HIGH_RES, Column
from pipelines.report.build import title_of


@pytest.mark.parametrize(
    ("name", "sources", "title"),
    [
        ("SVT again", ["first"], "SVT again"),
        ("", ["first"], "Evaluation of first"),
        (" ", ["a", "b", "c", "d", "e"], "Evaluation of a, b, c and 2 more"),
    ],
)
def test_a_report_is_named_after_what_is_evaluated_unless_it_has_a_name(name, sources, title):
    readers = [BenchmarkReader(TEACHER_HIGH_RES, None, source="teacher")]
    readers += [BenchmarkReader(Column("student_low_res", source), None, source=source) for source in sources]
    assert title_of(name, readers) == title
