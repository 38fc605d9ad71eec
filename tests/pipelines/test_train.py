"""``pipelines/train.py`` as a user runs it, on Ray workers and rendered words."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from mlflow import MlflowClient

import pipelines
from kdltr_core import load_student
from kdltr_core.config import RunConfig
from kdltr_core.data.dataset import load_datasets
from kdltr_core.recognizers.registry import charset_of
from pipelines.ray_train import worker
from pipelines.ray_train.cluster import Cluster
from pipelines.ray_train.worker import train_worker
from pipelines.run.checks import check_files, check_words, git_commit, source_digest
from pipelines.run.folder import REFUSAL_FILE
from pipelines.run.metrics_log import read_records
from pipelines.run.progress import headline
from pipelines.run.storage import Storage
from tests.kdltr_core.data.sets import single_records, write_records

TRAIN = Path(pipelines.__path__[0]) / "train.py"
STEPS = 8


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"data.train_roots": ("/nowhere",)}, "--data.train-roots names /nowhere"),
        ({"data.benchmark_roots": ("/nowhere",)}, "--data.benchmark-roots names /nowhere"),
        ({"recognizer.teacher_weights": "/nowhere.pt"}, "/nowhere.pt"),
        (
            {"recognizer.teacher_weights": ""},
            r"recognizer\.teacher_weights is empty, .* --recognizer\.teacher-weights FILE or 'bundled', or train "
            r"without one by --objective\.name supervised --recognizer\.student-start random$",
        ),
        (
            {"recognizer.teacher_weights": "", "objective.name": "supervised"},
            "is empty, but the student learns or starts from a teacher",
        ),
        (
            {"recognizer.teacher_weights": "", "recognizer.name": "parseq"},
            "--recognizer.teacher-weights FILE, or train",
        ),
        ({"recognizer.student_weights": "/nowhere.pt"}, "--recognizer.student-weights names /nowhere.pt"),
        ({"recognizer.name": "parseq"}, "--recognizer.teacher-weights FILE"),
    ],
)
def test_what_is_not_there_is_found_out_before_anything_is_prepared(changes: dict[str, object], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        check_files(RunConfig().override(changes))


@pytest.mark.parametrize("weights", ["bundled", ""])
def test_a_supervised_student_with_random_weights_needs_no_teacher(weights: str) -> None:
    changes = {"recognizer.name": "parseq", "recognizer.student_start": "random", "objective.name": "supervised"}
    check_files(RunConfig().override({**changes, "recognizer.teacher_weights": weights}))


def test_fewer_pairs_than_a_batch_are_refused(tmp_path: Path) -> None:
    data = {"num_rendered_train": 64, "num_rendered_benchmark": 16, "cache_folder": str(tmp_path)}
    config = RunConfig().override({f"data.{name}": value for name, value in data.items()})
    with pytest.raises(ValueError, match=r"\d+ training pairs are fewer than optim.batch_size 64"):
        check_words(config, load_datasets(config.data, charset_of(config)))


def test_a_benchmark_without_a_label_to_judge_by_is_refused_before_the_first_step(tmp_path: Path) -> None:
    root = write_records(tmp_path / "signs", single_records(["كلمة"] * 12))
    data = {"benchmark_roots": (str(root),), "num_rendered_train": 64, "cache_folder": str(tmp_path / "cache")}
    config = RunConfig().override({f"data.{name}": value for name, value in data.items()})
    with pytest.raises(ValueError, match="the benchmark set signs cannot be scored: none of its 12 labels"):
        check_words(config, load_datasets(config.data, charset_of(config)))


def test_pixels_made_anew_in_every_epoch_are_not_kept_on_the_device(tmp_path: Path) -> None:
    """Refused before any worker starts."""
    root = write_records(tmp_path / "signs", single_records([f"word{i}" for i in range(80)]))
    data = {"train_roots": (str(root),), "num_rendered_benchmark": 16, "cache_folder": str(tmp_path / "cache")}
    config = RunConfig().override(
        {f"data.{name}": value for name, value in data.items()} | {"data.placement": "device"}
    )
    with pytest.raises(ValueError, match="low_res of signs is degraded"):
        check_words(config, load_datasets(config.data, charset_of(config)))


@pytest.mark.parametrize(
    ("cluster", "workers", "said"),
    [
        (Cluster(2, 0, 1, offers_gpus=False), 2, ""),
        (Cluster(2, 0, 1, offers_gpus=False), 3, "--workers 3 takes as many CPUs and there are 2"),
        (Cluster(16, 1, 1, offers_gpus=True), 2, "--workers 2 takes as many GPUs and there is 1"),
        (Cluster(1, 4, 2, offers_gpus=True), 4, ""),
    ],
)
def test_more_workers_than_the_machine_has_room_for_are_refused(cluster: Cluster, workers: int, said: str) -> None:
    if said:
        with pytest.raises(ValueError, match=said):
            cluster.check(workers)
    else:
        cluster.check(workers)


def test_what_a_worker_refuses_is_left_for_the_driver_and_not_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tries = []

    def refuse(config: RunConfig, storage: Storage, run_id: str, datasets: object) -> None:
        tries.append(run_id)
        raise ValueError("the teacher does not fit")

    monkeypatch.setattr(worker, "_train", refuse)
    settings = {"run_folder": str(tmp_path), "config": {}, "run_id": "", "datasets": None}
    with pytest.raises(ValueError, match="does not fit"):
        train_worker(settings)
    assert not train_worker(settings)  # in the group that Ray rebuilds
    assert len(tries) == 1
    assert (tmp_path / REFUSAL_FILE).read_text() == "the teacher does not fit"


def test_the_bar_shows_what_is_known() -> None:
    assert headline({}) == ""
    known = {"train/loss": 1.2345, "train/images_per_second": 45.6, "validation/word_accuracy": 67.89}
    assert headline(known) == "loss 1.234, 46 images/s, validation 67.9 %"


def test_the_commit_of_the_code_is_known_or_said_to_be_unknown() -> None:
    assert git_commit() == "unknown" or len(git_commit().removesuffix("-dirty")) == 40


def test_code_that_was_copied_has_the_same_version_and_an_edit_another(tmp_path: Path) -> None:
    """Where there is no repository, as on the nodes of a cluster, this says which code it was."""
    copy = Path(shutil.copytree(Path(pipelines.__path__[0]), tmp_path / "pipelines"))
    version = source_digest([copy])
    assert version == source_digest([Path(pipelines.__path__[0])])
    (copy / "notes.txt").write_text("not code")
    assert source_digest([copy]) == version
    with (copy / "train.py").open("a") as file:
        file.write("\n")
    edited = source_digest([copy])
    (copy / "train.py").rename(copy / "trains.py")
    assert len({version, edited, source_digest([copy])}) == 3


@pytest.mark.slow
def test_a_run_of_two_workers_whose_driver_is_killed_is_resumed_to_table_and_tracked_run(tmp_path: Path) -> None:
    """Every step is recorded once, MLflow has one run, and the finished run started again says so."""
    run = tmp_path / "runs" / "demo"
    # fmt: off
    command = [
        sys.executable, str(TRAIN), "demo", "--num-steps", str(STEPS), "--optim.batch-size", "16",
        "--log-every", "1", "--validate-every", "4", "--checkpoint-every", "2", "--objective.num-permutations", "2",
        "--data.num-rendered-train", "64", "--data.num-rendered-benchmark", "16", "--data.cache-folder", "cache",
    ]
    # fmt: on
    environment = {**os.environ, "RAY_ADDRESS": ""}
    first = subprocess.Popen(command, cwd=tmp_path, env=environment, start_new_session=True)
    wait_until(lambda: (run / "checkpoints" / "step-00000002").exists() or first.poll() is not None)
    assert first.poll() is None, "it ended before it could be killed"
    os.kill(first.pid, signal.SIGKILL)
    first.wait()
    reached = max(record.step for record in read_records(run / "metrics.jsonl")[0])
    assert 2 <= reached < STEPS

    second = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=900)
    assert second.returncode == 0, second.stderr
    assert "Going on with the run" in second.stderr
    table = json.loads((run / "evaluation" / "table.json").read_text())
    assert table["columns"] == ["teacher_high_res", "teacher_enlarged", "student_low_res"]
    assert table["num_words"] == 16
    assert (run / "evaluation" / "table.md").read_text() in second.stdout
    assert f"mlflow ui --backend-store-uri sqlite:///{tmp_path}/mlflow.db" in second.stdout
    readings = pq.read_table(run / "evaluation" / "predictions.parquet")
    assert readings.num_rows == 16
    assert (run / "evaluation" / "examples.png").read_bytes().startswith(b"\x89PNG")
    assert callable(load_student(run / "student"))

    client = MlflowClient(f"sqlite:///{tmp_path}/mlflow.db")
    experiment = client.get_experiment_by_name("kdltr")
    assert experiment is not None
    (tracked,) = client.search_runs([experiment.experiment_id])
    assert (tracked.info.status, tracked.data.tags["resumed"]) == ("FINISHED", "1")
    history = client.get_metric_history(tracked.info.run_id, "train/loss")
    assert sorted(point.step for point in history) == list(range(1, STEPS + 1))
    history = client.get_metric_history(tracked.info.run_id, "validation/word_accuracy")
    assert sorted(point.step for point in history) == [0, 4, 8]
    paths = {artifact.path for artifact in client.list_artifacts(tracked.info.run_id, "evaluation")}
    assert paths >= {f"evaluation/{name}" for name in ("table.md", "table.json", "predictions.parquet", "examples.png")}

    again = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert again.returncode == 0
    assert "is finished" in again.stderr
    assert str(run / "evaluation" / "table.md") in again.stderr
    assert json.loads((run / "tracking.json").read_text())["starts"] == 2


def wait_until(condition: Callable[[], bool], seconds: float = 600) -> None:
    for _ in range(int(seconds / 0.2)):
        if condition():
            return
        time.sleep(0.2)
    raise AssertionError("it did not happen in time")
