"""export.py: from a finished student to a file or a registered model that reads as it does, and to one sentence where
it does not."""

from __future__ import annotations

import base64
import io
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import requests
import torch
from mlflow import MlflowClient
from PIL import Image

from kdltr_core.data.lmdb_store import LmdbStore
from kdltr_core.data.synth.render import render_words
from kdltr_core.inference.graph import GRAPH_FORMAT, PredictionGraph
from kdltr_core.inference.reader import load_student
from kdltr_core.recognizers import build_student
from pipelines.export import main
from pipelines.exporting.onnx_export import write_onnx
from pipelines.prediction.onnx_reader import OnnxReader
from tests.kdltr_core.lively import assert_reads_as, pictures, read_alone
from tests.service import make_student

Export = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose student has its teacher's weights, and rendered words."""
    folder = tmp_path_factory.mktemp("export")
    make_student(folder / "first-try")
    render_words(folder / "words", 40, seed=1)
    return folder


@pytest.fixture
def export(places: Path, command: Export) -> Export:
    data = ("--data.cache-folder", places / "cache", "--data.benchmark-roots", places / "words")
    return lambda *arguments: command(main, *arguments, *data)


def images(places: Path, num: int) -> list[Image.Image]:
    store = LmdbStore.open(places / "words")
    return [Image.open(io.BytesIO(store.image(number))) for number in range(1, num + 1)]


def test_mistakes_are_one_sentence_and_exit_code_2(places: Path, export: Export, tmp_path: Path) -> None:
    run = places / "first-try"
    for arguments, message in [
        ((tmp_path,), "is not a student or teacher that a run made"),
        ((run, "--output", tmp_path / "x.pt2"), "expected a file name that ends in .onnx"),
        ((run, "--output", tmp_path / "no" / "x.onnx"), f"there is no folder {tmp_path / 'no'}"),
        ((run, "--format", "mlflow", "--output", "x.onnx"), "a registered model has no file: give its --name"),
        ((run, "--name", "reader"), "--name and --tracking-uri are for --format mlflow"),
    ]:
        code, out, err = export(*arguments)
        assert (code, out) == (2, "")
        assert message in err
        assert err.count("\n") == 1


@pytest.mark.long
def test_a_student_becomes_an_onnx_file_beside_it(places: Path, export: Export) -> None:
    folder = places / "first-try" / "student"
    code, out, err = export(places / "first-try")
    assert (code, out) == (0, f"{folder / 'student.onnx'}\n")
    assert "40 words of words are read exactly as by PyTorch" in err
    words = OnnxReader(folder / "student.onnx")(images(places, 40))
    expected = load_student(folder, teacher=False)(images(places, 40))
    assert [word.text for word in words] == [word.text for word in expected]
    np.testing.assert_allclose([w.confidence for w in words], [w.confidence for w in expected], atol=1e-3)
    assert len({word.text for word in words}) > 20


@pytest.mark.long
def test_int8_is_measured_and_not_kept_where_it_costs_too_much(places: Path, export: Export, tmp_path: Path) -> None:
    arguments = (places / "first-try", "--quantise", "int8", "--output", tmp_path / "small.onnx")
    code, _, err = export(*arguments, "--max-loss", "-101")
    assert code == 2
    assert "small.onnx was not kept: int8 gives word accuracy" in err
    assert "on 40 words" in err
    assert list(tmp_path.iterdir()) == []
    code, _, err = export(*arguments, "--max-loss", "100")
    assert code == 0
    assert OnnxReader(tmp_path / "small.onnx").notes["weights"] == "int8"
    assert [path.name for path in tmp_path.iterdir()] == ["small.onnx"]


@pytest.mark.long
@pytest.mark.parametrize("name", ["abinet_vision", "abinet", "matrn", "parseq"])
def test_every_family_in_its_real_size_is_one_graph(name: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    student = build_student(name).eval()
    notes = {"format": GRAPH_FORMAT, "image_size": "[16, 64]", "characters": student.charset.characters}
    write_onnx(tmp_path / "student.onnx", PredictionGraph(student), (16, 64), notes)
    words = read_alone(student, pictures(6))
    reader = OnnxReader(tmp_path / "student.onnx")
    assert_reads_as(words, *reader.run(pictures(6).numpy()))
    assert [word.text for word in reader.read_pixels(pictures(6))] == [word.text for word in words]


@pytest.fixture
def server(places: Path, export: Export) -> Iterator[tuple[str, MlflowClient, str]]:
    """The registered student, served over HTTP: its address, the registry, and the id of the run that it is of."""
    uri = f"sqlite:///{places / 'mlflow.db'}"
    client = MlflowClient(uri)
    experiment = client.create_experiment("kdltr", (places / "mlartifacts").as_uri())
    run_id = client.create_run(experiment).info.run_id
    (places / "first-try" / "tracking.json").write_text(json.dumps({"uri": uri, "run_id": run_id}))
    code, out, err = export(places / "first-try", "--format", "mlflow", "--name", "plates")
    assert (code, out) == (0, "models:/plates/1\n"), err
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = ["models", "serve", "-m", "models:/plates/1", "--env-manager", "local", "-h", "127.0.0.1"]
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    mlflow = shutil.which("mlflow", path=path)
    assert mlflow
    environment = {**os.environ, "MLFLOW_TRACKING_URI": uri, "PATH": path, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen([mlflow, *command, "-p", str(port)], env=environment, start_new_session=True)
    try:
        wait_for(f"http://127.0.0.1:{port}/health", process)
        yield f"http://127.0.0.1:{port}/invocations", client, run_id
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(30)


def wait_for(address: str, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 400
    while time.monotonic() < deadline and process.poll() is None:
        with suppress(requests.RequestException):
            if requests.get(address, timeout=5).ok:
                return
        time.sleep(1)
    raise AssertionError(f"the server did not answer; exit code {process.poll()}")


def ask(address: str, *files: bytes) -> requests.Response:
    rows = [[base64.b64encode(file).decode()] for file in files]
    return requests.post(address, json={"dataframe_split": {"columns": ["image"], "data": rows}}, timeout=120)


@pytest.mark.long
def test_mlflow_serves_the_registered_student_over_http(server: tuple[str, MlflowClient, str], places: Path) -> None:
    address, client, run_id = server
    store = LmdbStore.open(places / "words")
    files = [store.image(number) for number in range(1, 6)]
    expected = load_student(places / "first-try", teacher=False)(files)
    answers = ask(address, *files).json()["predictions"]
    assert [answer["text"] for answer in answers] == [word.text for word in expected]
    np.testing.assert_allclose([a["confidence"] for a in answers], [w.confidence for w in expected], atol=1e-3)
    refused = ask(address, b"no image")
    assert (refused.status_code, "cannot be read as an image" in refused.text) == (400, True)
    version = client.get_model_version("plates", "1")
    assert version.run_id == run_id
    assert (version.tags["recognizer"], version.tags["checked_words"]) == ("parseq_tiny", "40")
