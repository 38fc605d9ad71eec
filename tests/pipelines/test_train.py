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
from kdltr_core.data.readings import WordReader
from kdltr_core.data.synth.render import render_words
from kdltr_core.recognizers.registry import charset_of
from kdltr_core.train.build import teacher_file
from pipelines.ray_train import worker
from pipelines.ray_train.worker import train_worker
from pipelines.run.checks import check_files, check_words, summary
from pipelines.run.description import describe, git_commit, source_digest, user
from pipelines.run.folder import REFUSAL_FILE, RunFolder
from pipelines.run.metrics_log import read_records
from pipelines.run.storage import SECONDS_OF_A_CLAIM, Storage
from tests.kdltr_core.data.sets import single_records, write_records
from tests.object_store import Bucket
from tests.tracked import tracked

TRAIN = Path(pipelines.__path__[0]) / "train.py"
STEPS = 8


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"data.train_roots": ("/nowhere",)}, "--data.train-roots names /nowhere"),
        ({"data.unlabelled_roots": ("/nowhere",)}, "--data.unlabelled-roots names /nowhere"),
        ({"recognizer.teacher_weights": "/nowhere.pt"}, "/nowhere.pt"),
        (
            {"recognizer.teacher_weights": ""},
            r"recognizer\.teacher_weights is empty, .* --recognizer\.teacher-weights FILE or 'bundled', or train "
            r"without one by --objective\.name supervised --recognizer\.student-start random$",
        ),
        (
            {"recognizer.student_weights": "/nowhere.pt"},
            "there is no checkpoint file /nowhere.pt; correct --recognizer.student-weights",
        ),
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


def words_in(folder: Path, **data: object) -> RunConfig:
    data |= {"num_rendered_benchmark": 16, "cache_folder": str(folder / "cache")}
    return RunConfig().override({f"data.{name}": value for name, value in data.items()})


def test_what_the_teacher_labelled_is_told_in_the_log_and_to_mlflow(tmp_path: Path) -> None:
    """With the teacher's confidence of two words below the floor, and no label at all."""
    root = write_records(tmp_path / "heap", single_records([""] * 10))
    config = words_in(tmp_path, unlabelled_roots=(str(root),))
    reader = WordReader("f" * 32, lambda pack: ([f"w{row}" for row in range(10)], [0.1, 0.2, *[0.9] * 8]))
    words = load_datasets(config.data, charset_of(config), reader=reader)
    first, used, refused, validated = summary(words)
    assert first.startswith(f"{len(words.train)} training pairs, {len(words.validation)} held out")
    assert used == f"{root}: 8 pictures labelled by what the teacher reads"
    assert "2 of 10 rejected: 2 low confidence" in refused
    assert "agreement with what the teacher reads" in validated
    description = describe(config, words, "train")
    assert (description.parameters["unlabelled.num_used"], description.parameters["unlabelled.num_refused"]) == (8, 2)
    assert description.tags["validation"] == validated
    assert "8 used, 2 of 10 rejected" in description.tags["data_unlabelled"]
    assert [(note["name"], json.loads(note["source"])) for note in description.training] == [
        ("heap", {"uri": str(root)})
    ]


def test_fewer_pairs_than_a_batch_are_refused(tmp_path: Path) -> None:
    config = words_in(tmp_path, num_rendered_train=64)
    with pytest.raises(ValueError, match=r"\d+ training pairs are fewer than optim.batch_size 64"):
        check_words(config, load_datasets(config.data, charset_of(config)))


def test_a_benchmark_without_a_label_to_judge_by_is_refused_before_the_first_step(tmp_path: Path) -> None:
    root = write_records(tmp_path / "signs", single_records(["كلمة"] * 12))
    config = words_in(tmp_path, num_rendered_train=64, benchmark_roots=(str(root),))
    with pytest.raises(ValueError, match="the benchmark set signs cannot be scored: none of its 12 labels"):
        check_words(config, load_datasets(config.data, charset_of(config)))


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


def test_nothing_that_only_describes_a_run_ends_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither a machine without git nor a user without a name."""
    assert git_commit() == "unknown" or len(git_commit().removesuffix("-dirty")) == 40
    monkeypatch.setenv("PATH", "/nowhere")
    assert git_commit() == "unknown"
    for name in ("LOGNAME", "USER", "LNAME", "USERNAME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(os, "getuid", lambda: 54321)
    assert user() == "54321"


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


def options(tmp_path: Path, bucket: Bucket | None) -> list[str]:
    """Where words, teacher and run are: rendered and bundled and in a folder, or all in a bucket."""
    if bucket is None:
        return []
    for name, num_words, seed in (("train", 64, 2), ("words", 16, 1)):
        render_words(tmp_path / name, num_words, seed=seed)
        bucket.put_tree(tmp_path / name, f"sets/{name}")
    bucket.put("teacher.safetensors", teacher_file(RunConfig()).read_bytes())
    # fmt: off
    return [
        "--data.train-roots", f"{bucket.uri}/sets/train", "--data.benchmark-roots", f"{bucket.uri}/sets/words",
        "--recognizer.teacher-weights", f"{bucket.uri}/teacher.safetensors", "--output-folder", f"{bucket.uri}/runs",
    ]
    # fmt: on


@pytest.mark.slow
@pytest.mark.parametrize("place", ["folder", pytest.param("bucket", marks=pytest.mark.long)])
def test_a_run_of_two_workers_whose_driver_is_killed_is_resumed_to_table_and_tracked_run(
    place: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """Every step is recorded once, MLflow has one run, and the finished run started again says so.

    In a bucket, the machine's copies are lost with the driver; and the benchmark is read again from there.
    """
    bucket: Bucket | None = request.getfixturevalue("bucket") if place == "bucket" else None
    command = [sys.executable, str(TRAIN), "demo", *small_run(STEPS), "--workers", "2", "--optim.batch-size", "16"]
    command += ["--validate-every", "4", *options(tmp_path, bucket)]
    run = RunFolder(RunConfig(name="demo", output_folder=f"{bucket.uri if bucket else tmp_path}/runs"))
    environment = {**os.environ, "RAY_ADDRESS": ""}
    first = subprocess.Popen(command, cwd=tmp_path, env=environment, start_new_session=True)
    wait_until(lambda: 2 in run.storage.steps() or first.poll() is not None)
    assert first.poll() is None, "it ended before it could be killed"
    os.kill(first.pid, signal.SIGKILL)
    first.wait()
    run.collect()
    reached = max(record.step for record in read_records(run.metrics_log)[0])
    assert 2 <= reached < STEPS
    if bucket:
        wait_until(lambda: not any((tmp_path / "cache" / "runs").rglob("*.writing")))
        shutil.rmtree(tmp_path / "cache" / "runs", ignore_errors=True)
        time.sleep(SECONDS_OF_A_CLAIM)

    second = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=900)
    assert second.returncode == 0, second.stderr
    assert f"Resuming the run in {run.storage.place}" in second.stderr
    run.collect()
    table = json.loads((run.path / "evaluation" / "table.json").read_text())
    assert table["columns"] == ["teacher_high_res", "teacher_enlarged", "student_low_res"]
    assert table["num_words"] == 16
    shown = run.table.read_text().strip()
    assert shown in second.stdout
    assert f"kdltr ui --tracking-uri sqlite:///{tmp_path}/mlflow.db" in second.stdout
    assert pq.read_table(run.path / "evaluation" / "predictions.parquet").num_rows == 16
    assert (run.path / "evaluation" / "examples.png").read_bytes().startswith(b"\x89PNG")
    assert callable(load_student(f"{run.storage.place}/student"))

    client = MlflowClient(f"sqlite:///{tmp_path}/mlflow.db")
    (run_there,) = tracked(f"sqlite:///{tmp_path}/mlflow.db").values()
    assert (run_there.info.status, run_there.data.tags["resumed"]) == ("FINISHED", "1")
    history = client.get_metric_history(run_there.info.run_id, "train/loss")
    assert sorted(point.step for point in history) == list(range(1, STEPS + 1))
    history = client.get_metric_history(run_there.info.run_id, "validation/word_accuracy")
    assert sorted(point.step for point in history) == [0, 4, 8]
    paths = {artifact.path for artifact in client.list_artifacts(run_there.info.run_id, "evaluation")}
    assert paths >= {f"evaluation/{name}" for name in ("table.md", "table.json", "predictions.parquet", "examples.png")}

    again = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert again.returncode == 0
    assert f"is finished. Its table is in {run.named('evaluation/table.md')}" in again.stderr
    run.storage.pull("tracking.json")
    assert json.loads((run.path / "tracking.json").read_text())["starts"] == 2
    if bucket:
        assert f"runs/demo/checkpoints/step-{STEPS:08d}/checkpoint.json" in bucket.objects()
        assert not any("claims" in name for name in bucket.objects())
        assert list((tmp_path / "cache" / "runs").iterdir()) == []
        states = [f"runs/demo/checkpoints/step-{step:08d}/state.pt" for step in range(STEPS + 1)]
        assert sum(bucket.num_reads(state) > 0 for state in states) == 1  # what it went on from
        words = ["--data.benchmark-roots", f"{bucket.uri}/sets/words", "--data.cache-folder", "another-cache"]
        words += ["--data.benchmark-degradation", "interlaced"]  # the demo's
        evaluate = [sys.executable, str(TRAIN.with_name("evaluate.py")), run.storage.place, *words]
        read = subprocess.run(evaluate, cwd=tmp_path, capture_output=True, text=True)
        assert read.returncode == 0, read.stderr
        assert read.stdout.strip() == shown


@pytest.mark.slow
@pytest.mark.parametrize("option", ["data.train_roots", "recognizer.teacher_weights"])
def test_what_is_not_in_the_store_is_found_out_before_anything_is_prepared(
    bucket: Bucket, tmp_path: Path, option: str
) -> None:
    bucket.put("sets/data.mdb", b"")
    bucket.put("teacher.safetensors", b"")
    there: dict[str, object] = {
        "data.train_roots": (f"{bucket.uri}/sets",),
        "recognizer.teacher_weights": f"{bucket.uri}/teacher.safetensors",
        "data.cache_folder": str(tmp_path),
    }
    check_files(RunConfig().override(there))
    nowhere = f"{bucket.uri}/nowhere"
    with pytest.raises(ValueError, match=f"there is nothing to fetch at {nowhere}"):
        check_files(RunConfig().override(there | {option: (nowhere,) if option.endswith("roots") else nowhere}))
    assert bucket.num_reads("sets/data.mdb") == 0


def small_run(num_steps: int) -> list[str]:
    """Options of ``demo`` for a few steps of one worker on few words."""
    # fmt: off
    return [
        "--workers", "1", "--num-steps", str(num_steps), "--optim.batch-size", "8", "--optim.warmup-steps", "0",
        "--log-every", "1", "--validate-every", "2", "--checkpoint-every", "2",
        "--objective.num-permutations", "2", "--data.num-rendered-train", "64", "--data.num-rendered-benchmark", "16",
        "--data.cache-folder", "cache", "--selection-words", "16", "--harm-words", "4",
    ]
    # fmt: on


def wait_until(condition: Callable[[], bool], seconds: float = 600) -> None:
    for _ in range(int(seconds / 0.2)):
        if condition():
            return
        time.sleep(0.2)
    raise AssertionError("it did not happen in time")
