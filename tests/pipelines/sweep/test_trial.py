"""What a trial reports and leaves: to its end, stopped, and where it fails."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from kdltr_core.config import RunConfig
from pipelines.run.metrics_log import read_records
from pipelines.sweep import trial
from pipelines.sweep.study import ERROR_FILE
from tests.kdltr_core.small import build_small, save_teacher


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    build_small(monkeypatch)
    fields = {
        "recognizer.name": "parseq_tiny",
        "recognizer.teacher_weights": save_teacher("parseq_tiny", tmp_path),
        "num_steps": 2,
        "validate_every": 1,
        "optim.batch_size": 4,
        "objective.num_permutations": 2,
        "data.num_rendered_train": 64,
        "data.num_rendered_benchmark": 16,
        "data.cache_folder": str(tmp_path / "cache"),
        "data.teacher_cache": "on",
    }
    (tmp_path / "config.yaml").write_text(RunConfig().override(fields).to_yaml(), encoding="utf-8")
    return {"folder": str(tmp_path), "threads": 1, "benchmarks": True}


def test_a_trial_reports_every_validation_and_one_that_resumes_only_that_it_is_whole(
    settings: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reports: list[dict[str, float]] = []
    monkeypatch.setattr(trial.tune, "report", reports.append)
    trial.run_trial(settings)
    assert not (tmp_path / ERROR_FILE).exists()
    assert [report[trial.PERCENT_DONE] for report in reports] == [0, 50, 100]
    best = [r.metrics[trial.BEST_ACCURACY] for r in read_records(tmp_path / "metrics.jsonl")[0] if not r.note
            and trial.BEST_ACCURACY in r.metrics]  # fmt: skip
    assert best[-1] == max(report[trial.ACCURACY_NOW] for report in reports)
    table = pq.read_table(tmp_path / "evaluation" / "predictions.parquet")
    correct = table["student_low_res_correct"].to_numpy().astype(float)
    assert read_records(tmp_path / "metrics.jsonl")[0][-1].metrics["accuracy"] == pytest.approx(100 * correct.mean())
    reports.clear()
    trial.run_trial(settings)
    assert reports == [{trial.PERCENT_DONE: 100.0}]


def test_an_error_is_left_for_the_driver_and_not_tried_again(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("no_such_field: 1", encoding="utf-8")
    trial.run_trial({"folder": str(tmp_path), "threads": 1})
    first, _, account = (tmp_path / ERROR_FILE).read_text().partition("\n")
    assert first.startswith("ValueError: ")
    assert "no_such_field" in first
    assert "Traceback" in account
    (tmp_path / "config.yaml").unlink()
    trial.run_trial({"folder": str(tmp_path), "threads": 1})
    assert (tmp_path / ERROR_FILE).read_text().startswith(first)
