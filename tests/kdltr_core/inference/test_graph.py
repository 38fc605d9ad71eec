"""The graph reads what the recognizer reads, each word as if it were alone."""

from __future__ import annotations

import pytest
import torch

from kdltr_core.config import LOW_RES_SIZE
from kdltr_core.inference.graph import PredictionGraph
from tests.kdltr_core.lively import assert_reads_as, lively_student, pictures, read_alone
from tests.kdltr_core.small import TEACHERS


@pytest.fixture(scope="module")
def read(tmp_path_factory: pytest.TempPathFactory) -> torch.nn.Module:
    """PARSeq's graph as torch.export writes and reads it, for any number of pictures."""
    file = tmp_path_factory.mktemp("exported") / "student.pt2"
    batch = ({0: torch.export.Dim("n", max=64)},)
    graph = PredictionGraph(lively_student("parseq_tiny"))
    torch.export.save(torch.export.export(graph, (pictures(2),), dynamic_shapes=batch), file)
    return torch.export.load(file).module()


def test_parseq_is_read_in_a_loop_as_the_recognizer_reads_it(read: torch.nn.Module) -> None:
    student = lively_student("parseq_tiny")
    words, (classes, probabilities) = read_alone(student, pictures(24)), read(pictures(24))
    assert len({len(word.text) for word in words}) > 4, "words of one length would not show where the loop ends"
    assert [student.charset.decode(ids) for ids in classes.tolist()] == [word.text for word in words]
    assert_reads_as(words, classes, probabilities)


def test_a_word_is_read_the_same_whatever_else_is_in_the_batch(read: torch.nn.Module) -> None:
    together = read(pictures(24))
    for place in range(24):
        classes, probabilities = read(pictures(24)[place : place + 1])
        assert torch.equal(classes[0], together[0][place])
        torch.testing.assert_close(probabilities[0], together[1][place])


@pytest.mark.parametrize("name", ["abinet_vision", "abinet", "matrn"])
def test_what_is_read_at_once_ends_with_its_first_end(name: str) -> None:
    student = lively_student(name)
    student.temperature = 1.7
    words = read_alone(student, pictures(24))
    assert len({len(word.text) for word in words}) > 4
    with torch.inference_mode():
        classes, probabilities = PredictionGraph(student)(pictures(24))
    assert [student.charset.decode(ids) for ids in classes.tolist()] == [word.text for word in words]
    assert_reads_as(words, classes, probabilities)


def test_a_student_that_enlarges_does_so_in_its_graph_too() -> None:
    torch.manual_seed(0)
    student = TEACHERS["parseq_tiny"]().eval()
    student.image_size, student.enlarges = LOW_RES_SIZE, True
    words = read_alone(student, pictures(4))
    with torch.inference_mode():
        classes, probabilities = PredictionGraph(student)(pictures(4))
    assert_reads_as(words, classes, probabilities)
