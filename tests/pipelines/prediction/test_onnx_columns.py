"""evaluate.py reads with exported ONNX files beside runs: the same pixels, columns of their own, plain mistakes."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch

from kdltr_core.config import RunConfig
from kdltr_core.data.synth.render import render_words
from kdltr_core.inference.weights_files import export_recognizer
from kdltr_core.train.build import load_teacher
from pipelines.evaluate import main
from pipelines.exporting.onnx_int8 import write_int8
from tests.kdltr_core.lively import pictures
from tests.service import make_student, write_graph

NUM_WORDS = 20
Evaluate = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run, what is exported of it in float32 and int8, and rendered words."""
    folder = tmp_path_factory.mktemp("onnx-columns")
    make_student(folder / "run")
    (folder / "exported").mkdir()
    write_graph(folder / "run", folder / "exported" / "student.onnx")
    pixels = pictures(32, seed=2).numpy()
    write_int8(folder / "exported" / "student-int8.onnx", folder / "exported" / "student.onnx", pixels)
    render_words(folder / "words" / "rendered", NUM_WORDS, seed=1)
    return folder


@pytest.fixture
def evaluate(places: Path, command: Evaluate) -> Evaluate:
    data = ("--data.benchmark-roots", places / "words", "--data.cache-folder", places / "cache")
    return lambda *arguments: command(main, *arguments, *data)


def test_a_file_stands_beside_its_run_and_reads_the_same_pixels(
    places: Path, evaluate: Evaluate, tmp_path: Path
) -> None:
    exported = places / "exported"
    files = (exported / "student.onnx", exported / "student-int8.onnx")
    report = ("--report", tmp_path / "report", "--harm-words", 0, "--tracking-uri", "")
    code, out, _ = evaluate(places / "run", *files, "--output-folder", tmp_path, *report)
    assert code == 0
    titles = ("student, low_res", "student (student.onnx), low_res", "student (student-int8.onnx), low_res")
    assert f"| teacher, high_res | teacher, enlarged low_res | {' | '.join(titles)} |" in out
    assert f"- {titles[0]} vs. {titles[2]}: only the first correct on" in out
    assert f"- {titles[2]} vs. teacher, enlarged low_res: only the first correct on" in out

    written = pq.read_table(tmp_path / "predictions.parquet").to_pydict()
    run, whole, small = ("student_low_res", *(f"student_low_res:{file.name}" for file in files))
    assert written[whole] == written[run]
    assert len(set(written[run])) > NUM_WORDS / 2
    assert written[f"{whole}_confidence"] == pytest.approx(written[f"{run}_confidence"], abs=1e-3)
    # Its rounding shows, and is small.
    between = [abs(a - b) for a, b in zip(written[f"{small}_confidence"], written[f"{run}_confidence"], strict=True)]
    assert 1e-4 < sorted(between)[NUM_WORDS // 2] < 0.2
    tree = json.loads((tmp_path / "table.json").read_text())
    assert tree["sets"]["rendered"][whole] == tree["sets"]["rendered"][run]
    reader = json.loads((tmp_path / "report" / "report.json").read_text())["readers"][small]
    assert reader == {"recognizer": "parseq_tiny", "method": "ONNX, int8", "parameters": None}


def test_files_without_a_run_have_no_teacher_beside_them(places: Path, evaluate: Evaluate) -> None:
    file = places / "exported" / "student.onnx"
    code, out, _ = evaluate(file, "--protocol", "94", "--batch-size", 3)
    assert code == 0
    assert "| words | student (student.onnx), low_res |" in out
    assert "Protocol: 94 characters" in out


def test_files_of_one_name_are_told_apart_by_their_paths(places: Path, evaluate: Evaluate, tmp_path: Path) -> None:
    files = (places / "exported" / "student.onnx", tmp_path / "student.onnx")
    shutil.copyfile(*files)
    code, out, _ = evaluate(*files)
    assert code == 0
    assert " | ".join(f"student ({file}), low_res" for file in files) in out


@pytest.mark.slow
def test_a_teachers_file_stands_in_both_columns_of_a_teacher(places: Path, evaluate: Evaluate, tmp_path: Path) -> None:
    changes = {
        "recognizer.resolution": "high_res",
        "recognizer.student_start": "random",
        "objective.name": "supervised",
    }
    config = RunConfig().override(changes)
    teacher = load_teacher(RunConfig(), torch.device("cpu"))
    export_recognizer(tmp_path / "run" / "teacher", teacher, teacher.state_dict(), config)
    file = write_graph(tmp_path / "run", tmp_path / "teacher.onnx")
    code, out, _ = evaluate(places / "run", file, "--output-folder", tmp_path / "table")
    assert code == 0
    assert "teacher (teacher.onnx), high_res | teacher (teacher.onnx), enlarged low_res |" in out
    written = pq.read_table(tmp_path / "table" / "predictions.parquet").to_pydict()
    assert written["teacher_high_res:teacher.onnx"] == written["teacher_high_res"]
    sure, rounded = (written[f"teacher_enlarged{name}_confidence"] for name in ("", ":teacher.onnx"))
    # A graph takes eight bits, so what is enlarged was rounded before.
    assert rounded == pytest.approx(sure, abs=0.1)
    assert written["teacher_high_res_confidence"] != pytest.approx(sure, abs=0.1)


def test_a_file_given_twice_is_refused(places: Path, evaluate: Evaluate, tmp_path: Path) -> None:
    whole = places / "exported" / "student.onnx"
    (tmp_path / "again.onnx").symlink_to(whole)
    code, out, err = evaluate(whole, tmp_path / "again.onnx")
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert "is given twice" in err
