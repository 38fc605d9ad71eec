"""Whoever is compared reads the same crops, of any size, and says the words in their order."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks.candidates import CandidateName, open_candidate
from kdltr_core.inference.reader import Reader
from kdltr_core.inference.weights_files import load_recognizer
from kdltr_core.recognizers import Recognizer
from pipelines.exporting.onnx_int8 import write_int8
from tests.service import make_student, word_picture, write_graph

WORDS = ["HOTEL", "Station", "exit", "open24"]


def crops() -> list[np.ndarray]:
    return [np.asarray(word_picture(word)) for word in WORDS]


@pytest.fixture(scope="module")
def student(tmp_path_factory: pytest.TempPathFactory) -> tuple[Recognizer, dict[str, Path]]:
    """One that reads clean print, and its graphs."""
    run = make_student(tmp_path_factory.mktemp("run"))
    recognizer, graphs = load_recognizer(run), {name: run / f"{name}.onnx" for name in ("onnx", "int8")}
    write_graph(run, graphs["onnx"])
    reader = Reader(recognizer, "cpu")
    pixels = np.stack([reader.pixels(crop) for crop in crops()]).transpose(0, 3, 1, 2)
    write_int8(graphs["int8"], graphs["onnx"], np.ascontiguousarray(pixels))
    return recognizer, graphs


@pytest.mark.parametrize("name", ["pytorch", "onnx", "int8", "rapidocr"])
def test_everyone_reads_the_words_of_crops_of_any_size(
    name: CandidateName, student: tuple[Recognizer, dict[str, Path]]
) -> None:
    if name == "rapidocr":
        pytest.importorskip("rapidocr")
    read = open_candidate(name, *student, num_threads=1, batch_size=3)
    assert len({crop.shape for crop in crops()}) == len(WORDS)
    assert read(crops()) == WORDS
    assert read(crops()[::-1]) == WORDS[::-1]
