"""Readers take turns at every word, one word at a time."""

from kdltr_core.evaluation.table import STUDENT_LOW_RES, TEACHER_ENLARGED
from kdltr_core.recognizers.decoding import Prediction
from pipelines.report.build import measure_times
from tests.pipelines.report.made import Stripes


def test_readers_take_turns_and_only_their_first_word_is_read_twice():
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
