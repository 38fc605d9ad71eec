"""``pipelines/compare.py`` as a user runs it, on rendered words."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import pipelines
from kdltr_core import load_student
from kdltr_core.config import RunConfig
from pipelines.sweep.study import SweepStudy
from tests.pipelines.test_train import small_run
from tests.tracked import tracked

COMPARE = Path(pipelines.__path__[0]) / "compare.py"


@pytest.mark.slow
@pytest.mark.long
def test_objectives_are_trained_alike_compared_and_none_is_trained_twice(tmp_path: Path) -> None:
    objectives = ["--objectives", "dld", "supervised"]
    command = [sys.executable, str(COMPARE), "demo", "--seeds", "0", "1", *small_run(2), *objectives]
    environment = {**os.environ, "RAY_ADDRESS": ""}
    first = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=1200)
    assert first.returncode == 0, first.stderr
    place = tmp_path / "runs" / "demo-compared"
    trials = SweepStudy(place / "runs").ended
    assert [(t.params["objective.name"], t.params["seed"], t.state) for t in trials] == [
        ("dld", 0, "FINISHED"), ("supervised", 0, "FINISHED"), ("dld", 1, "FINISHED"), ("supervised", 1, "FINISHED"),
    ]  # fmt: skip
    configs = [RunConfig.from_yaml(trial.folder / "config.yaml").flatten() for trial in trials]
    differing = {name for name in configs[0] if len({str(config[name]) for config in configs}) > 1}
    assert differing == {"name", "objective.name", "seed"}
    assert "gain over dld" in first.stdout
    assert callable(load_student(trials[0].folder))

    runs_of = tracked(f"sqlite:///{tmp_path}/mlflow.db")
    assert {run.info.status for run in runs_of.values()} == {"FINISHED"}
    assert len(runs_of) == 5
    metrics = runs_of["demo-compared"].data.metrics
    assert 0 <= metrics["comparison/supervised/word_accuracy"] <= 100
    assert "comparison/supervised/gain" in metrics
    assert "comparison/dld/gain" not in metrics

    again = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=600)
    assert (again.returncode, "is finished" in again.stderr) == (0, True)
    written = [(trial.folder / "metrics.jsonl").stat().st_mtime_ns for trial in trials]
    third = subprocess.run(
        [*command, "a_skd"], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=1200
    )
    assert third.returncode == 0, third.stderr
    assert [(trial.folder / "metrics.jsonl").stat().st_mtime_ns for trial in trials] == written
    assert "a_skd" in (place / "report" / "comparison.html").read_text()
