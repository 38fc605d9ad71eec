"""Reading that is recorded and replayed: the texts of eager reading, whatever the batch's size and longest word."""

from __future__ import annotations

import pytest
import torch

from kdltr_core.data.images import as_float
from kdltr_core.inference.captured import LogitsReader
from kdltr_core.recognizers.decoding import decode_predictions
from tests.kdltr_core.lively import lively_student, pictures
from tests.kdltr_core.replay import replay_on_cpu

CPU = torch.device("cpu")


@pytest.mark.parametrize("name", ["parseq_tiny", "abinet_vision", "abinet", "matrn"])
def test_recorded_reading_gives_the_texts_of_eager_reading(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    student = lively_student(name)
    batches = [pictures(num, seed) for seed, num in enumerate((5, 8, 1, 1, 9, 2, 1, 10, 1, 8, 1))]
    with torch.inference_mode():
        expected = [decode_predictions(student(as_float(batch)).logits, student.charset) for batch in batches]
    recorders = replay_on_cpu(monkeypatch)
    read = LogitsReader(student, CPU)
    assert [decode_predictions(read(batch), student.charset) for batch in batches] == expected
    lengths = {max(map(len, words)) for words in expected}
    assert len(lengths) > 1  # batches that end after different steps
    assert recorders[0].num_replayed > 4


def test_weights_that_change_are_read_with(monkeypatch: pytest.MonkeyPatch) -> None:
    """The student that is trained is read with one recorded reading."""
    student = lively_student("parseq_tiny")
    replay_on_cpu(monkeypatch)
    read, batch = LogitsReader(student, CPU), pictures(8)
    before = [decode_predictions(read(batch), student.charset) for _ in range(3)]
    assert before[0] == before[1] == before[2]
    with torch.no_grad():
        student.head.bias.mul_(-1)
        expected = decode_predictions(student(as_float(batch)).logits, student.charset)
    assert decode_predictions(read(batch), student.charset) == expected != before[0]
