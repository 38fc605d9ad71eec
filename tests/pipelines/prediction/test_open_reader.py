"""A student is opened by its run or by its exported file, and reads the same words."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from pipelines.predict import main
from pipelines.prediction import open_reader as opening
from pipelines.prediction.open_reader import open_reader
from tests.object_store import Bucket
from tests.service import word_picture, write_graph

WORDS = ("HOTEL", "Cafe", "exit")


@pytest.fixture(scope="module")
def graph(student: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_graph(student, tmp_path_factory.mktemp("graph") / "student.onnx")


def test_predict_reads_with_a_file_and_with_one_in_a_bucket(
    graph: Path, bucket: Bucket, tmp_path: Path, command: Callable[..., tuple[int, str, str]]
) -> None:
    bucket.put("exported/student.onnx", graph.read_bytes())
    for word in WORDS:
        word_picture(word).save(tmp_path / f"{word}.png")
    for place in (graph, f"{bucket.uri}/exported/student.onnx"):
        code, out, _ = command(main, place, tmp_path, "--format", "jsonl", "--cache-folder", tmp_path / "cache")
        assert code == 0
        assert {json.loads(line)["text"] for line in out.splitlines()} == set(WORDS)


def test_what_a_file_cannot_do_is_said_with_the_way_out(
    graph: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ValueError, match=r"student\.onnx is read on the CPU and not on cuda; give the run"):
        open_reader(graph, "cuda")
    (tmp_path / "folder.onnx").mkdir()
    for name in ("none.onnx", "folder.onnx"):
        with pytest.raises(ValueError, match=rf"there is no file .*{name}; pipelines/export\.py writes one"):
            open_reader(tmp_path / name)
    monkeypatch.setattr(opening, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"needs onnxruntime: pip install 'kdltr\[export\]'"):
        open_reader(graph)
