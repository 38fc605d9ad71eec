"""``pipelines/tune.py`` as a user runs it, on Ray Tune and rendered words."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from mlflow import MlflowClient

import pipelines
from kdltr_core import load_student
from kdltr_core.config import RunConfig
from pipelines.run.command_line import parse_run
from pipelines.sweep.study import PARTS, SweepStudy
from tests.pipelines.test_train import small_run, wait_until
from tests.tracked import tracked

TUNE = Path(pipelines.__path__[0]) / "tune.py"

# The published rate is tried first; one that ruins the student by a quarter of its way; and a start that is not there.
SPACE = """
from ray import tune
SPACE = {
    "optim.learning_rate": tune.loguniform(1e-5, 1.0),
    "recognizer.student_weights": tune.choice(["", "/nowhere.safetensors"]),
}
POINTS = [
    {"optim.learning_rate": 0.9, "recognizer.student_weights": ""},
    {"optim.learning_rate": 1e-4, "recognizer.student_weights": "/nowhere.safetensors"},
]
"""


@pytest.mark.slow
@pytest.mark.long
def test_a_sweep_that_is_interrupted_goes_on_to_its_report_and_every_trial_is_told_as_it_ended(tmp_path: Path) -> None:
    """Ctrl-C in the first trial ends with a report; the same command finishes it and the others, and none twice."""
    sweep = tmp_path / "runs" / "demo-space"
    (tmp_path / "space.py").write_text(SPACE)
    command = [sys.executable, str(TUNE), "demo", "--space", "space.py", "--num-trials", "3", *small_run(8)]
    # One at a time, so that the ruined one finds the other's figures to be compared with.
    command += ["--cpus-per-trial", str(os.cpu_count())]
    environment = {**os.environ, "RAY_ADDRESS": ""}
    first = subprocess.Popen(
        command, cwd=tmp_path, env=environment, start_new_session=True, stdout=subprocess.PIPE, text=True
    )
    wait_until(lambda: (sweep / "trials/0000/checkpoints/step-00000002").exists() or first.poll() is not None)
    assert first.poll() is None, "it ended before it could be interrupted"
    os.killpg(first.pid, signal.SIGINT)  # as a terminal does it: everybody hears it
    page, _ = first.communicate(timeout=300)
    assert first.returncode == 130
    assert "# Sweep demo-space" in page
    before = tracked(f"sqlite:///{tmp_path}/mlflow.db")
    assert {name: run.info.status for name, run in before.items()} == {
        "demo-space": "KILLED",
        "demo-space trial 0": "KILLED",
    }

    second = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=900)
    assert second.returncode == 0, second.stderr
    assert "Resuming the sweep" in second.stderr
    study = SweepStudy(sweep / "trials")
    trials = study.ended
    assert [trial.state for trial in trials] == ["FINISHED", "PRUNED", "FAILED"]
    assert max(study.study.trials[0].intermediate_values) == PARTS
    assert "/nowhere.safetensors" in trials[2].error
    after = tracked(f"sqlite:///{tmp_path}/mlflow.db")
    states = {name: (run.info.status, run.data.tags.get("sweep.outcome")) for name, run in after.items()}
    assert states == {
        "demo-space": ("FINISHED", None),
        "demo-space trial 0": ("FINISHED", "finished"),
        "demo-space trial 1": ("FINISHED", "pruned"),
        "demo-space trial 2": ("FAILED", "failed"),
    }
    assert {name: after[name].info.run_id for name in before} == {n: run.info.run_id for n, run in before.items()}
    client = MlflowClient(f"sqlite:///{tmp_path}/mlflow.db")
    history = client.get_metric_history(after["demo-space trial 0"].info.run_id, "train/loss")
    assert sorted(point.step for point in history) == list(range(1, 9))
    paths = {artifact.path for artifact in client.list_artifacts(after["demo-space"].info.run_id, "report")}
    assert paths >= {f"report/{name}" for name in ("sweep.html", "history.png", "slices.png")}

    # The teacher was asked once for all trials.
    assert RunConfig.from_yaml(sweep / "trials" / "0000" / "config.yaml").data.teacher_cache == "on"
    assert len(list((tmp_path / "cache" / "teacher_outputs").glob("*/index.json"))) == 1
    assert "The point in best.yaml is" in second.stdout
    best = parse_run([str(sweep / "best.yaml")], "train.py", "")
    assert best.optim.learning_rate == RunConfig.from_yaml(sweep / "config.yaml").optim.learning_rate
    assert callable(load_student(sweep / "trials" / "0000"))
    assert not list(sweep.glob("trials/*/checkpoints/step-*"))

    again = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert again.returncode == 0
    assert "is finished" in again.stderr
    assert json.loads((sweep / "tracking.json").read_text())["starts"] == 2
