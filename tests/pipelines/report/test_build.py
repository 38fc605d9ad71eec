"""What is measured beside the table: times that are interleaved; and what the report is called."""

import pytest

from kdltr_core.evaluation.benchmarks import BenchmarkReader
from kdltr_core.evaluation.table import STUDENT_LOW_RES, TEACHER_ENLARGED, TEACHER_HIGH_RES, Column
from kdltr_core.recognizers.decoding import Prediction
from pipelines.report.build import measure_times, title_of
from tests.pipelines.report.made import Stripes


def test_readers_are_interleaved_and_only_their_first_word_is_read_twice():
    calls = []

    def reader(column):
        def read(batch):
            calls.append((column, batch.set_name, batch.indices.tolist(), len(batch.low_res)))
            return [Prediction("", 1.0, ())]

        return BenchmarkReader(column, read)

    words = {"a": Stripes("a", ["x", "y"]), "b": Stripes("b", ["z"])}
    taken = measure_times([reader(TEACHER_ENLARGED), reader(STUDENT_LOW_RES)], words, 2)
    assert set(taken) == {TEACHER_ENLARGED, STUDENT_LOW_RES}
    assert all(milliseconds >= 0 for milliseconds in taken.values())
    t, s = TEACHER_ENLARGED, STUDENT_LOW_RES
    assert [column for column, *_ in calls] == [t, t, s, s, t, s]
    assert calls[0][1:] == calls[1][1:] == calls[2][1:] == calls[3][1:] != calls[4][1:] == calls[5][1:]
    assert {num_words for *_, num_words in calls} == {1}


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
