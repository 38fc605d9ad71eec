"""What MLflow shows of a run is what the run recorded: once, in order, and in the end all of it."""

from __future__ import annotations

import base64
import json
import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import mlflow.pyfunc
import pandas as pd
import pytest
from mlflow import MlflowClient
from mlflow.entities import Dataset, Run

from kdltr_core.config import RunConfig
from kdltr_core.inference.reader import load_student
from kdltr_core.remote import public
from pipelines.run import tracking
from pipelines.run.description import Description, noted
from pipelines.run.metrics_log import MetricsLog
from pipelines.run.tracking import Tracker
from tests.service import encoded, make_student, word_picture
from tests.tracked import tracked

DESCRIPTION = Description(
    name="first",
    parameters=RunConfig(name="first").flatten(),
    tags={"recipe": "demo", "git_commit": "abc"},
    testing=[Dataset("SVT", "0123456789abcdef", "local", "{}", profile='{"num_pairs": 647}').to_dictionary()],
)


@pytest.fixture
def uri(tmp_path: Path, empty_database: Path) -> str:
    shutil.copy(empty_database, tmp_path / "mlflow.db")
    return f"sqlite:///{tmp_path}/mlflow.db"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "runs" / "first"
    (path / "evaluation").mkdir(parents=True)
    (path / "config.yaml").write_text("name: first\n")
    (path / "evaluation" / "table.md").write_text("| SVT |\n")
    return path


def tracker(folder: Path, uri: str, said: list[str] | None = None) -> Tracker:
    return Tracker(folder, uri, "words", (said if said is not None else []).append)


def record(folder: Path, *steps: int) -> None:
    metrics_log = MetricsLog(folder / "metrics.jsonl")
    for step in steps:
        metrics_log.record(step, {"train/loss": 1 / step, "train/learning_rate": 0.1})


def only_run(uri: str) -> Run:
    (run,) = tracked(uri, "words").values()
    return run


def curve(uri: str, name: str = "train/loss") -> list[tuple[int, float]]:
    history = MlflowClient(uri).get_metric_history(only_run(uri).info.run_id, name)
    return sorted((m.step, m.value) for m in history)


def expected(*steps: int) -> list[tuple[int, float]]:
    return [(step, 1 / step) for step in steps]


def test_a_finished_run_has_its_parameters_tags_data_curves_and_artifacts(folder: Path, uri: str) -> None:
    one = tracker(folder, uri)
    run_id = one.begin(DESCRIPTION)
    record(folder, 10, 20, 30)
    one.send()
    assert one.end("FINISHED", [folder / "config.yaml", folder / "evaluation", folder / "absent"])
    run = only_run(uri)
    assert (run.info.run_id, run.info.status, run.info.run_name) == (run_id, "FINISHED", "first")
    assert run.data.params["optim.learning_rate"] == "5e-05"
    assert set(run.data.params) == set(RunConfig().flatten())
    assert run.data.tags.items() >= {"recipe": "demo", "git_commit": "abc", "resumed": "0"}.items()
    (dataset,) = run.inputs.dataset_inputs
    assert (dataset.dataset.name, json.loads(dataset.dataset.profile)) == ("SVT", {"num_pairs": 647})
    assert dataset.dataset.digest == "0123456789abcdef"
    assert [(tag.key, tag.value) for tag in dataset.tags] == [("mlflow.data.context", "testing")]
    assert curve(uri) == expected(10, 20, 30)
    client = MlflowClient(uri)
    assert {a.path for a in client.list_artifacts(run_id)} == {"config.yaml", "evaluation"}
    assert [a.path for a in client.list_artifacts(run_id, "evaluation")] == ["evaluation/table.md"]
    experiment = client.get_experiment_by_name("words")
    assert experiment is not None
    assert experiment.artifact_location.startswith("file:///")


def test_a_finished_run_is_described_and_its_student_is_a_model_that_reads(
    folder: Path, uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The model is an output of the run and bears its headline; it is made once, however often the end is sent."""
    monkeypatch.setattr(sys, "argv", ["train.py", "demo", "--tracking-uri=http://me:hunter2@host", "--name", "a b"])
    student = make_student(folder)
    one = tracker(folder, uri)
    log = MetricsLog(folder / "metrics.jsonl")
    log.record(10, {"train/loss": 3.0})
    log.record(30, {"accuracy": 69.25})
    run_id = one.begin(replace(DESCRIPTION, headlines=("accuracy",)))
    assert list(only_run(uri).data.metrics) == ["accuracy"]  # NaN so far, and the first of the list
    for _ in range(2):
        assert one.end("FINISHED", tags=noted("**69.2 %** are read", "train"), model=student / "student")
    run = only_run(uri)
    assert list(run.data.metrics.items()) == [("accuracy", 69.25), ("train/loss", 3.0)]
    assert [(m.value, m.step) for m in MlflowClient(uri).get_metric_history(run_id, "accuracy")][1:] == [(69.25, 0)]
    note = run.data.tags["mlflow.note.content"]
    assert note == "**69.2 %** are read\n\n```\nkdltr train demo --tracking-uri=http://host --name 'a b'\n```"
    client = MlflowClient(uri)
    (model,) = client.search_logged_models([run.info.experiment_id])
    assert [output.model_id for output in run.outputs.model_outputs] == [model.model_id]
    assert (model.name, model.source_run_id, str(model.status)) == ("student", run_id, "READY")
    assert [(m.key, m.value) for m in model.metrics] == [("accuracy", 69.25)]

    monkeypatch.setattr(mlflow.tracking._tracking_service.utils, "_tracking_uri", uri)
    picture = encoded(word_picture("Espresso"))
    served = mlflow.pyfunc.load_model(f"models:/{model.model_id}")
    expected = load_student(student, "cpu")([picture])[0]
    # As curl sends it: MLflow leaves the base64 of "inputs" as it is.
    for image in (picture, base64.b64encode(picture)):
        (row,) = served.predict(pd.DataFrame({"image": [image]})).values
        assert (row[0], row[1]) == (expected.text, pytest.approx(expected.confidence))


def test_points_have_the_time_they_were_measured_at_and_names_that_mlflow_refuses_stay_apart(
    folder: Path, uri: str
) -> None:
    values = {"benchmark/a(b/student": 1.0, "benchmark/a)b/student": 2.0, "benchmark/a b/student": 3.0}
    tracked = tracker(folder, uri)
    run_id = tracked.begin(DESCRIPTION)
    line = {"step": 5, "time": 1_700_000_000_123, "metrics": values}
    (folder / "metrics.jsonl").write_text(json.dumps(line) + "\n")
    tracked.send()
    (point,) = MlflowClient(uri).get_metric_history(run_id, "benchmark/a b/student")
    assert (point.step, point.timestamp) == (5, 1_700_000_000_123)
    metrics = only_run(uri).data.metrics
    assert sorted(metrics.values()) == [1.0, 2.0, 3.0]
    assert metrics["benchmark/a b/student"] == 3.0


def test_a_resume_goes_on_in_the_same_run_and_doubles_nothing(folder: Path, uri: str) -> None:
    first = tracker(folder, uri)
    run_id = first.begin(DESCRIPTION)
    record(folder, 10, 20, 30)
    first.send()
    first.end("KILLED")
    assert only_run(uri).info.status == "KILLED"
    second = tracker(folder, uri)
    assert second.begin(Description("first", {"num_steps": "900"}, {"recipe": "demo"})) == run_id
    assert only_run(uri).info.status == "RUNNING"
    record(folder, 20, 30, 40)
    second.end("FINISHED")
    assert curve(uri) == expected(10, 20, 30, 40)
    assert only_run(uri).data.tags["resumed"] == "1"


def test_a_batch_sent_twice_is_there_once(folder: Path, uri: str) -> None:
    """A process may be killed between the sending and the note that it was sent."""
    first = tracker(folder, uri)
    first.begin(DESCRIPTION)
    record(folder, *range(1, 121))
    before = (folder / "tracking.json").read_text()
    first.send()
    (folder / "tracking.json").write_text(before)
    again = tracker(folder, uri)
    record(folder, 121)
    again.end("FINISHED")
    assert curve(uri) == expected(*range(1, 122))


def test_without_a_uri_nothing_is_written_or_said(folder: Path) -> None:
    said: list[str] = []
    none = tracker(folder, "", said)
    assert none.begin(DESCRIPTION) == ""
    record(folder, 1)
    none.send()
    assert none.end("FINISHED")
    assert (said, none.where, none.owes) == ([], "", False)
    assert not (folder / "tracking.json").exists()


def test_a_run_that_was_deleted_is_made_again_from_the_metrics_log(folder: Path, uri: str) -> None:
    """As by a click in the UI, while it is recorded."""
    said: list[str] = []
    one = tracker(folder, uri, said)
    run_id = one.begin(DESCRIPTION)
    record(folder, 10)
    one.send()
    MlflowClient(uri).delete_run(run_id)
    record(folder, 20)
    one.send()
    assert one.end("FINISHED")
    assert one.run_id != run_id
    history = MlflowClient(uri).get_metric_history(one.run_id, "train/loss")
    assert [m.step for m in history] == [10, 20]
    assert any("no longer has the run" in sentence for sentence in said)


def test_an_experiment_that_was_deleted_is_away_until_it_is_restored(
    folder: Path, uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And nothing is called back before that, whether or not there is something to send."""
    monkeypatch.setattr(tracking, "SECONDS_BETWEEN_TRIES", 0.0)
    said: list[str] = []
    one = tracker(folder, uri, said)
    one.begin(DESCRIPTION)
    record(folder, 10)
    one.send()
    client = MlflowClient(uri)
    experiment_id = only_run(uri).info.experiment_id
    client.delete_experiment(experiment_id)
    record(folder, 20)
    for _ in range(3):
        one.send()
    gone = [sentence for sentence in said if "training continues" in sentence]
    assert len(gone) == 1
    assert "have the experiment words, if at all, not deleted" in gone[0]
    assert not any("is back" in sentence for sentence in said)
    client.restore_experiment(experiment_id)
    assert one.end("FINISHED")
    assert curve(uri) == expected(10, 20)


@pytest.mark.parametrize(
    "uri", ["mysql+nodriver://host/mlflow", "mssql+pyodbc://me:hunter2@host/mlflow", "sqlite:////dev/null/mlflow.db"]
)
def test_whatever_a_store_raises_training_goes_on_and_the_rest_is_owed(folder: Path, uri: str) -> None:
    sentences: list[str] = []
    one = tracker(folder, uri, sentences)
    assert one.begin(DESCRIPTION) == ""
    record(folder, 10)
    assert not one.end("FINISHED")
    assert one.owes
    assert "training continues" in sentences[0]
    assert "hunter2" not in "".join(sentences)


@pytest.mark.parametrize("answer", ["401", "later", "slow"])
def test_a_server_that_refuses_or_takes_its_time_costs_seconds(
    folder: Path, monkeypatch: pytest.MonkeyPatch, answer: str
) -> None:
    monkeypatch.setattr(tracking, "SECONDS_TO_ANSWER", 5.0)
    monkeypatch.setattr(tracking, "SECONDS_TO_END", 1.0)

    class Server(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response({"401": 401, "later": 503, "slow": 200}[answer])
            self.send_header("Retry-After", "3600")
            self.send_header("Content-Length", "100")
            self.end_headers()
            with suppress(OSError):
                for _ in range(100):
                    self.wfile.write(b" ")
                    time.sleep(1.0 if answer == "slow" else 0.0)

        do_POST = do_GET

        def log_message(self, *args: object) -> None:
            pass

    said: list[str] = []
    with ThreadingHTTPServer(("127.0.0.1", 0), Server) as service:
        threading.Thread(target=service.serve_forever, daemon=True).start()
        one = tracker(folder, f"http://127.0.0.1:{service.server_port}", said)
        begun = time.monotonic()
        assert one.begin(DESCRIPTION) == ""
        record(folder, 10)
        one.send()
        assert not one.end("FINISHED")
        assert time.monotonic() - begun < 20
        service.shutdown()
        service.block_on_close = False
    assert "training continues" in said[0]
    assert "MLFLOW_TRACKING_USERNAME" in said[0]


@pytest.mark.parametrize("state", ['{"uri": "sqli', "[]", '{"newer": 1}', "\x00"])
def test_a_torn_tracking_file_costs_no_result(folder: Path, uri: str, state: str) -> None:
    (folder / "tracking.json").write_text(state)
    one = tracker(folder, uri)
    record(folder, 10)
    one.begin(DESCRIPTION)
    assert one.end("FINISHED")
    assert curve(uri) == expected(10)


@pytest.mark.parametrize("what", ["a copy of the folder", "another server"])
def test_whoever_is_another_gets_a_run_of_its_own_with_all_of_it(
    what: str, folder: Path, uri: str, tmp_path: Path, empty_database: Path
) -> None:
    first = tracker(folder, uri)
    first_id = first.begin(DESCRIPTION)
    record(folder, 10)
    first.end("KILLED")
    copy = Path(shutil.copytree(folder, folder.with_name("copy")))
    other = f"sqlite:///{shutil.copy(empty_database, tmp_path / 'other.db')}"
    second = tracker(folder, other) if what == "another server" else tracker(copy, uri)
    second_id = second.begin(DESCRIPTION)
    record(folder if what == "another server" else copy, 20)
    second.end("FINISHED")
    assert first_id != second_id
    for place, run_id, expected_steps in (
        (uri, first_id, [10]),
        (other if what == "another server" else uri, second_id, [10, 20]),
    ):
        history = MlflowClient(place).get_metric_history(run_id, "train/loss")
        assert [m.step for m in history] == expected_steps


def test_secrets_are_kept_nowhere_and_lines_to_paste_are_quoted(
    folder: Path, tmp_path: Path, empty_database: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    server_uri = f"http://me:hunter2@127.0.0.1:{free_port()}/?token=hunter2"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server_uri)
    one = tracker(folder, public(server_uri), said)  # as a run's config.yaml has it
    assert tracking.with_secrets(public(server_uri)) == server_uri
    one.begin(DESCRIPTION)
    assert "hunter2" not in (folder / "tracking.json").read_text() + one.where + "".join(said)
    database = f"sqlite:///{shutil.copy(empty_database, tmp_path / 'a b.db')}"
    assert shlex.split(tracker(folder, database).where) == ["kdltr", "ui", "--tracking-uri", database]


@pytest.mark.slow
def test_what_was_missed_while_the_server_was_away_is_written_when_it_is_back(folder: Path, tmp_path: Path) -> None:
    said: list[str] = []
    port = free_port()
    with server(tmp_path, port) as url:
        one = tracker(folder, url, said)
        run_id = one.begin(DESCRIPTION)
        record(folder, 10, 20)
        one.send()
        assert curve(url) == expected(10, 20)
        experiment = MlflowClient(url).get_experiment(only_run(url).info.experiment_id)
        page = f"{url}/#/experiments/{experiment.experiment_id}/runs/{run_id}?workflowType=machine_learning"
        assert one.where == page
        assert experiment.tags["mlflow.experimentKind"] == "custom_model_development"  # else MLflow takes it for agents
    record(folder, 30)
    one.send()
    assert len(said) == 1
    assert "metrics.jsonl keeps them" in said[0]
    record(folder, 40)
    assert not one.end("FINISHED", [folder / "config.yaml"])
    with server(tmp_path, port) as url:
        later = tracker(folder, url, said)
        assert later.owes
        assert later.end("FINISHED", [folder / "config.yaml"])
        assert curve(url) == expected(10, 20, 30, 40)
        run = only_run(url)
        assert (run.info.run_id, run.info.status) == (run_id, "FINISHED")
        assert [a.path for a in MlflowClient(url).list_artifacts(run_id)] == ["config.yaml"]
        assert not later.owes


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def server(folder: Path, port: int) -> Iterator[str]:
    """A real ``mlflow server`` that is killed at the end, with the processes that it started."""
    url = f"http://127.0.0.1:{port}"
    store = ["--backend-store-uri", f"sqlite:///{folder}/server.db", "--artifacts-destination", str(folder / "served")]
    process = subprocess.Popen(
        [sys.executable, "-m", "mlflow", "server", "--port", str(port), "--workers", "1", *store],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        for _ in range(240):
            assert process.poll() is None, "the server ended by itself"
            try:
                urllib.request.urlopen(f"{url}/health", timeout=5)
                break
            except OSError:
                time.sleep(0.5)
        yield url
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
