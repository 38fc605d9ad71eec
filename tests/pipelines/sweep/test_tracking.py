"""What MLflow shows of a sweep: one run and a run for every trial, each in its true state, and no trial twice."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from mlflow import MlflowClient
from mlflow.entities import Run

from kdltr_core.config import RunConfig
from pipelines.run.description import Description
from pipelines.sweep.study import ERROR_FILE, SweepStudy
from pipelines.sweep.tracking import SweepTracker
from tests.pipelines.sweep.trials import begin_trial, try_point
from tests.tracked import tracked

OWN = {"objective.soft_logits": 20.0}


@pytest.fixture
def config(tmp_path: Path, empty_database: Path) -> RunConfig:
    shutil.copy(empty_database, tmp_path / "mlflow.db")
    return RunConfig(name="sweep", tracking_uri=f"sqlite:///{tmp_path}/mlflow.db", experiment="words")


def begin(folder: Path, config: RunConfig, said: list[str] | None = None) -> tuple[SweepTracker, SweepStudy]:
    """As a driver does it, be it the first or one that resumes."""
    folder.mkdir(exist_ok=True)
    study = SweepStudy(folder / "trials", baseline=OWN)
    again = SweepStudy(folder / "confirmation")
    tracker = SweepTracker(
        folder, config, {"trial": study, "confirmation": again}, (said if said is not None else []).append
    )
    tracker.begin(Description(config.name, config.flatten(), {"recipe": "demo", "sweep.role": "sweep"}))
    return tracker, study


def point(value: float) -> dict[str, float]:
    return {"objective.soft_logits": value}


def runs(config: RunConfig) -> dict[str, Run]:
    return tracked(config.tracking_uri, "words")


def test_every_trial_is_a_child_in_the_state_that_it_ended_in(tmp_path: Path, config: RunConfig) -> None:
    folder = tmp_path / "sweep"
    tracker, study = begin(folder, config)
    try_point(study, point(20.0), 50.0, 70.0)
    tracker.poll()
    try_point(study, point(3.0), 50.0, state="PRUNED")
    failed = begin_trial(study, point(4.0), 50.0)
    (failed.folder / ERROR_FILE).write_text("RuntimeError: boom\n\nTraceback")
    tracker.poll()
    study.end(failed.number, "FAILED", "RuntimeError: boom")
    begin_trial(study, point(5.0), 50.0)
    tracker.poll()
    assert runs(config)["sweep trial 3"].info.status == "RUNNING"
    try_point(SweepStudy(folder / "confirmation"), {**point(20.0), "seed": 1}, 50.0)
    (folder / "best.yaml").write_text("name: best\n")
    assert tracker.end("KILLED", [folder / "best.yaml"], {"sweep.answer": "No."})

    found = runs(config)
    parent = found.pop("sweep")
    assert (parent.info.status, parent.data.tags["sweep.answer"]) == ("KILLED", "No.")
    states = {name: (run.info.status, run.data.tags["sweep.outcome"]) for name, run in found.items()}
    assert states == {
        "sweep trial 0": ("FINISHED", "finished"),
        "sweep trial 1": ("FINISHED", "pruned"),
        "sweep trial 2": ("FAILED", "failed"),
        "sweep trial 3": ("KILLED", "killed"),
        "sweep confirmation 0": ("FINISHED", "finished"),
    }
    assert all(run.data.tags["mlflow.parentRunId"] == parent.info.run_id for run in found.values())
    assert found["sweep trial 2"].data.tags["sweep.error"] == "RuntimeError: boom"
    assert found["sweep trial 1"].data.params["objective.soft_logits"] == "3.0"
    assert found["sweep trial 1"].data.params["optim.learning_rate"] == "5e-05"
    assert "the baseline" in found["sweep trial 0"].data.tags["mlflow.note.content"]

    client = MlflowClient(config.tracking_uri)
    curve = client.get_metric_history(found["sweep trial 0"].info.run_id, "validation/word_accuracy")
    assert [(point.step, point.value) for point in curve] == [(0, 50.0), (1, 70.0)]
    assert [artifact.path for artifact in client.list_artifacts(parent.info.run_id)] == ["best.yaml"]
    files = {artifact.path for artifact in client.list_artifacts(found["sweep trial 2"].info.run_id)}
    assert files == {ERROR_FILE}


def test_the_next_driver_goes_on_in_the_same_runs(tmp_path: Path, config: RunConfig) -> None:
    """One driver was killed and could say nothing; the next ends its trials, and makes none of them anew."""
    first, study = begin(tmp_path / "sweep", config)
    try_point(study, point(20.0), 50.0)
    try_point(study, point(3.0), 50.0, state="FAILED", error="OSError: disk")
    begin_trial(study, point(4.0), 50.0)
    begin_trial(study, point(5.0), 50.0)
    first.poll()
    before = {name: run.info.run_id for name, run in runs(config).items()}

    second, study = begin(tmp_path / "sweep", config)
    study.retry_failed()
    assert begin_trial(study, None, 50.0, 60.0).number == 2
    second.poll()
    assert runs(config)["sweep trial 2"].info.status == "RUNNING"
    study.end(2, "FINISHED")
    second.end("FINISHED")
    assert runs(config)["sweep trial 3"].info.status == "KILLED"
    assert begin_trial(study, None).number == 3
    assert try_point(study, None).number == 1
    second.end("FINISHED")

    found = runs(config)
    assert {name: run.info.run_id for name, run in found.items()} == before
    states = {name: run.info.status for name, run in found.items()}
    assert states == {
        "sweep": "FINISHED",
        "sweep trial 0": "FINISHED",
        "sweep trial 1": "FINISHED",
        "sweep trial 2": "FINISHED",
        "sweep trial 3": "KILLED",
    }
    assert found["sweep trial 1"].data.tags["sweep.error"] == ""
    history = MlflowClient(config.tracking_uri).get_metric_history(before["sweep trial 2"], "validation/word_accuracy")
    assert [point.step for point in history] == [0, 1]
    assert json.loads((tmp_path / "sweep/trials/0000/tracking.json").read_text())["starts"] == 1


def test_a_server_that_does_not_answer_is_owed_everything(tmp_path: Path, config: RunConfig) -> None:
    """The sweep goes on, says so once, and the same command with the server back sends it all."""
    said: list[str] = []
    nowhere = config.override({"tracking_uri": "http://127.0.0.1:9"})
    tracker, study = begin(tmp_path / "sweep", nowhere, said)
    try_point(study, point(20.0), 50.0)
    tracker.poll()
    assert not tracker.end("FINISHED")
    assert tracker.parent.owes
    assert len([sentence for sentence in said if "does not take" in sentence]) == 1
    later, _ = begin(tmp_path / "sweep", config)
    assert later.end("FINISHED")
    assert {name: run.info.status for name, run in runs(config).items()} == {
        "sweep": "FINISHED",
        "sweep trial 0": "FINISHED",
    }
