"""What is measured beside the table: times that are interleaved; and what is said before a report is made."""

import pytest
import torch

from kdltr_core.evaluation.benchmarks import BenchmarkReader
from kdltr_core.evaluation.table import STUDENT_LOW_RES, TEACHER_ENLARGED, TEACHER_HIGH_RES, Column
from kdltr_core.recognizers.decoding import Prediction
from pipelines.report.build import Evaluation, measure_times, workload
from pipelines.report.options import EvaluateOptions
from tests.pipelines.report.made import Stripes


def test_readers_are_interleaved_and_only_their_first_word_is_read_twice():
    calls = []

    def reader(name):
        def read(batch):
            calls.append((name, batch.set_name, batch.indices.tolist(), len(batch.low_res)))
            return [Prediction("", 1.0, ())]

        return read

    words = {"a": Stripes("a", ["x", "y"]), "b": Stripes("b", ["z"])}
    taken = measure_times({TEACHER_ENLARGED: reader("t"), STUDENT_LOW_RES: reader("s")}, words)
    assert set(taken) == {TEACHER_ENLARGED, STUDENT_LOW_RES}
    assert all(milliseconds >= 0 for milliseconds in taken.values())
    warm = [("t", "a", [0], 1), ("t", "a", [0], 1), ("s", "a", [0], 1), ("s", "a", [0], 1)]
    assert calls == warm + [(n, s, [i], 1) for s, i in (("a", 1), ("b", 0)) for n in ("t", "s")]


def test_the_number_of_predictions_is_said_beforehand():
    """3 readers on 40 words; 9 cells of 20 words and 27 conditions on 10 by the two that read low_res; 5 one by one."""
    columns = (TEACHER_HIGH_RES, TEACHER_ENLARGED, STUDENT_LOW_RES)
    readers = [BenchmarkReader(c, lambda batch: [Prediction("", 1.0, ())]) for c in columns]
    options = EvaluateOptions(("run",), curve_words=10, harm_words=20, time_words=5)
    said = workload(options, readers, {"a": Stripes("a", ["x"] * 40)}, torch.device("cpu"))
    total = 3 * 40 + 9 * 20 * 2 + 27 * 10 * 2 + 3 * 5
    parts = "120 for the table, 360 for the harm matrix, 540 for"
    assert said.startswith(f"the report takes {total:,} predictions, up to 1 min: {parts}")


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
    evaluation = Evaluation(EvaluateOptions(("run",), name=name), readers, {}, None, None, None, None)
    assert evaluation.title == title
