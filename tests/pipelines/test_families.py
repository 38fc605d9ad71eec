"""``pipelines/train.py`` with the recipes of ABINet, its vision part and MATRN, on Ray workers, in a small size."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from mlflow import MlflowClient
from mlflow.entities import Run

from kdltr_core import load_student
from kdltr_core.recognizers import registry
from pipelines import train
from pipelines.ray_train import worker
from pipelines.recipes import abinet_ltr, abinet_vision_ltr, matrn_ltr
from pipelines.run.command_line import answer_mistakes
from tests.kdltr_core.data.sets import drawn, single_records, write_records
from tests.kdltr_core.small import STUDENTS, TEACHERS, build_small

ROOT = Path(__file__).parent.parent.parent
RECIPES = (abinet_vision_ltr, abinet_ltr, matrn_ltr)
LABELS = ["Hello", "a", "kd-LTR7", "EXIT", "don't", "Main", "St", "£9.50", "1/2", "OPEN", "shut", "left", "on", "off"]
train_worker = worker.train_worker


def make_small() -> None:
    registry._TEACHERS, registry._STUDENTS = TEACHERS, STUDENTS


def small_worker(settings: dict[str, Any]) -> bool:
    make_small()
    return train_worker(settings)


def train_small() -> None:
    """The command of every recipe in turn, in one process, for the sake of one Ray: arguments follow the recipe."""
    make_small()
    worker.train_worker = small_worker
    arguments = sys.argv[1:]
    for recipe in RECIPES:
        family = recipe().recognizer.name
        sys.argv = ["train.py", recipe.__name__, "--recognizer.teacher-weights", f"{family}.pth", *arguments]
        if status := answer_mistakes(train.main):
            sys.exit(status)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the three runs were made."""
    folder = tmp_path_factory.mktemp("families")
    write_records(folder / "train", single_records(LABELS))
    write_records(folder / "words", single_records(LABELS[:5], first_seed=500))
    for recipe in RECIPES:
        family = recipe().recognizer.name
        torch.manual_seed(0)
        content = {"model": TEACHERS[family]().state_dict(), "opt": {"state": {}, "param_groups": []}}
        torch.save(content, folder / f"{family}.pth")
    # fmt: off
    command = [
        sys.executable, "-c", "from tests.pipelines.test_families import train_small; train_small()",
        "--workers", "2", "--num-steps", "2", "--log-every", "1", "--optim.batch-size", "4",
        "--data.train-roots", "train", "--data.benchmark-roots", "words", "--data.validation-fraction", "0.2",
        "--data.cache-folder", "cache", "--optim.precision", "float32",
    ]
    # fmt: on
    environment = {**os.environ, "RAY_ADDRESS": "", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr
    return folder


def tracked(folder: Path, name: str) -> tuple[MlflowClient, Run]:
    client = MlflowClient(f"sqlite:///{folder}/mlflow.db")
    experiment = client.get_experiment_by_name("kdltr")
    assert experiment is not None
    (run,) = client.search_runs([experiment.experiment_id], f"tags.mlflow.runName = '{name}'")
    return client, run


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.parametrize("recipe", RECIPES)
def test_a_recipe_is_trained_read_and_tracked_as_parseqs_are(
    recipe: Callable[[], object], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = recipe.__name__
    client, run = tracked(folder, name)
    assert run.info.status == "FINISHED"
    params = run.data.params
    assert params["recognizer.name"] == name.removesuffix("_ltr")
    assert (params["workers"], params["num_steps"], params["objective.visual_focus"]) == ("2", "2", "4.0")

    def steps(metric: str) -> list[int]:
        return sorted(point.step for point in client.get_metric_history(run.info.run_id, metric))

    for term in ("loss", "visual_focus", "semantic_contrast", "soft_logits", "cross_entropy"):
        assert steps(f"train/{term}") == [1, 2]
        assert run.data.metrics[f"train/{term}"] > 0
    assert run.data.metrics["train/skipped_steps"] == 0
    assert steps("validation/word_accuracy") == [0, 2]
    assert steps("accuracy") == steps("gain_over_enlarged") == [2]
    artifacts = {artifact.path for artifact in client.list_artifacts(run.info.run_id, "evaluation")}
    expected = {"table.md", "table.json", "predictions.parquet", "examples.png", "curves.png"}
    assert artifacts >= {f"evaluation/{file}" for file in expected}

    table = json.loads((folder / "runs" / name / "evaluation" / "table.json").read_text())
    assert table["columns"] == ["teacher_high_res", "teacher_enlarged", "student_low_res"]
    assert table["num_words"] == 5
    assert json.loads((folder / "runs" / name / "tracking.json").read_text())["starts"] == 1
    build_small(monkeypatch)
    assert len(load_student(folder / "runs" / name)([drawn(1), drawn(2)])) == 2
