"""A run whose words, weights and folder lie in an object store is the run that it would be in a folder."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from mlflow import MlflowClient

import pipelines
from kdltr_core.config import RunConfig
from kdltr_core.data.synth.render import render_pairs
from kdltr_core.remote import CHUNK_BYTES
from kdltr_core.train.build import teacher_file
from pipelines.run.checks import check_files
from pipelines.run.folder import RunFolder
from pipelines.run.stored_run import StoredRun, open_run
from tests.object_store import Bucket

pytestmark = pytest.mark.slow

SCRIPTS = Path(pipelines.__path__[0])
STEPS = 8
SECONDS_TO_CHECKPOINT = 600


def config(bucket: Bucket, **changes: object) -> RunConfig:
    return RunConfig(name="first", output_folder=f"{bucket.uri}/runs").override(changes)


def begin(bucket: Bucket, with_checkpoint: bool = True) -> StoredRun:
    run = StoredRun(config(bucket))
    with run.claim():
        bucket.put("runs/first/metrics.jsonl", b"")
        bucket.put("runs/first/tracking.json", b"{}")
        if with_checkpoint:
            bucket.put("runs/first/checkpoints/step-00000400/checkpoint.json", b"{}")
    return run


def test_the_output_folder_says_where_a_run_is(bucket: Bucket, tmp_path: Path) -> None:
    assert type(open_run(RunConfig(name="first", output_folder=str(tmp_path)))) is RunFolder
    run = open_run(config(bucket))
    assert run.place == f"{bucket.uri}/runs/first"
    assert run.named("evaluation/table.md") == f"{bucket.uri}/runs/first/evaluation/table.md"


def test_another_config_under_the_same_name_is_refused_once_there_is_a_checkpoint(bucket: Bucket) -> None:
    begin(bucket, with_checkpoint=False)
    assert not StoredRun(config(bucket, seed=1)).has_begun
    bucket.put("runs/first/checkpoints/step-00000400/checkpoint.json", b"{}")
    assert StoredRun(config(bucket, num_steps=900)).has_begun
    with pytest.raises(ValueError, match=r"the run in s3://.*/first was begun with seed 0, now 1.*another --name"):
        StoredRun(config(bucket, seed=1))


def test_nothing_of_an_abandoned_start_is_mixed_into_the_new_one(bucket: Bucket) -> None:
    begin(bucket, with_checkpoint=False)
    with StoredRun(config(bucket, seed=1)).claim():
        assert bucket.objects() == ["runs/first/claim.json", "runs/first/config.yaml"]
        assert "seed: 1" in bucket.get("runs/first/config.yaml").decode()


def test_what_an_earlier_start_left_for_the_same_run_stays_but_its_outcome(bucket: Bucket) -> None:
    begin(bucket)
    bucket.put("runs/first/refused.txt", b"the teacher does not fit")
    bucket.put("runs/first/finished.json", b"{}")
    with StoredRun(config(bucket)).claim():
        left = {name.removeprefix("runs/first/").split("/")[0] for name in bucket.objects()}
    assert left == {"claim.json", "config.yaml", "metrics.jsonl", "tracking.json", "checkpoints"}


def test_two_drivers_do_not_write_in_one_run(bucket: Bucket) -> None:
    run = begin(bucket)
    with (
        run.claim(),
        pytest.raises(ValueError, match=r"is training in s3://.*/first; wait for it, or give another --name"),
        StoredRun(config(bucket)).claim(),
    ):
        pass


def test_finished_means_read_to_the_end_with_as_many_steps(bucket: Bucket) -> None:
    run = begin(bucket)
    run.mark_finished()
    assert not StoredRun(config(bucket)).is_finished  # without a table
    bucket.put("runs/first/evaluation/table.md", b"|")
    again = StoredRun(config(bucket))
    assert again.is_finished
    assert again.table.read_text() == "|"
    assert not StoredRun(config(bucket, num_steps=1000)).is_finished


def test_a_bucket_that_is_not_there_is_a_mistake_with_a_way_out(bucket: Bucket) -> None:
    run = StoredRun(RunConfig(name="first", output_folder="s3://no-such-bucket/runs"))
    with pytest.raises(ValueError, match="there is no bucket for s3://no-such-bucket/runs/first"), run.claim():
        pass


def test_what_the_driver_keeps_is_there_and_what_cannot_be_kept_is_a_warning(bucket: Bucket) -> None:
    run = begin(bucket)
    (run.path / "errors.txt").write_text("worker 0 failed")
    run.keep("errors.txt")
    run.keep("never-written.txt")
    assert bucket.get("runs/first/errors.txt") == b"worker 0 failed"
    lost = StoredRun(RunConfig(name="first", output_folder="s3://no-such-bucket/runs"))
    lost.path.mkdir(parents=True)
    (lost.path / "errors.txt").touch()
    with pytest.warns(UserWarning, match=r"there is no bucket .*; errors\.txt is not kept"):
        lost.keep("errors.txt")


@pytest.mark.parametrize(
    "option", ["data.train_roots", "data.benchmark_roots", "recognizer.teacher_weights", "recognizer.student_weights"]
)
def test_what_is_not_in_the_store_is_found_out_before_anything_is_prepared(
    bucket: Bucket, tmp_path: Path, option: str
) -> None:
    bucket.put("sets/data.mdb", b"")
    bucket.put("teacher.safetensors", b"")
    there = {
        "data.train_roots": (f"{bucket.uri}/sets",),
        "recognizer.teacher_weights": f"{bucket.uri}/teacher.safetensors",
        "data.cache_folder": str(tmp_path),
    }
    check_files(config(bucket, **there))
    nowhere = f"{bucket.uri}/nowhere"
    with pytest.raises(ValueError, match=f"there is nothing at {nowhere}"):
        check_files(config(bucket, **there | {option: (nowhere,) if option.endswith("roots") else nowhere}))
    assert bucket.num_reads("sets/data.mdb") == 0


@pytest.mark.long
def test_a_run_that_is_all_in_a_bucket_outlives_its_driver_and_the_copies_on_disk(
    bucket: Bucket, tmp_path: Path
) -> None:
    """Killed after a checkpoint, its copies deleted: the same command goes on, to one record and one tracked run."""
    render_pairs(tmp_path / "train", 64, seed=2)
    render_pairs(tmp_path / "words", 16, seed=1)
    bucket.put_tree(tmp_path / "train", "sets/train")
    bucket.put_tree(tmp_path / "words", "sets/words")
    teacher = teacher_file(RunConfig())
    bucket.put("teacher.safetensors", teacher.read_bytes())
    run = f"{bucket.uri}/runs/demo"
    # fmt: off
    command = [
        sys.executable, str(SCRIPTS / "train.py"), "demo", "--workers", "2", "--num-steps", str(STEPS),
        "--optim.batch-size", "16", "--log-every", "1", "--validate-every", "4", "--checkpoint-every", "2",
        "--objective.num-permutations", "2", "--data.cache-folder", "cache", "--output-folder", f"{bucket.uri}/runs",
        "--data.train-roots", f"{bucket.uri}/sets/train", "--data.benchmark-roots", f"{bucket.uri}/sets/words",
        "--recognizer.teacher-weights", f"{bucket.uri}/teacher.safetensors",
    ]
    # fmt: on
    environment = {**os.environ, "RAY_ADDRESS": ""}
    first = subprocess.Popen(command, cwd=tmp_path, env=environment, start_new_session=True)
    wait_for_object(bucket, "runs/demo/checkpoints/step-00000002/checkpoint.json", first)
    os.kill(first.pid, signal.SIGKILL)
    first.wait()
    assert "runs/demo/finished.json" not in bucket.objects()
    shutil.rmtree(tmp_path / "cache" / "runs")

    second = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=900)
    assert second.returncode == 0, second.stderr
    assert f"Going on with the run in {run}" in second.stderr
    states = [f"runs/demo/checkpoints/step-{step:08d}/state.pt" for step in range(STEPS + 1)]
    assert len([state for state in states if bucket.num_reads(state)]) == 1  # what it went on from
    assert bucket.num_reads(states[0]) == 0
    table = bucket.get("runs/demo/evaluation/table.md").decode()
    assert table in second.stdout
    assert "| teacher, high_res | teacher, enlarged low_res | student, low_res |" in table
    assert "16 words in 1 set" in table
    there = bucket.objects()
    assert f"runs/demo/checkpoints/step-{STEPS:08d}/checkpoint.json" in there
    assert "runs/demo/claim.json" not in there
    assert bucket.get("runs/demo/student/config.yaml") == bucket.get("runs/demo/config.yaml")
    assert f"{bucket.uri}/sets/train" in bucket.get("runs/demo/config.yaml").decode()
    assert list((tmp_path / "cache" / "runs").iterdir()) == []
    for file in (tmp_path / "train" / "data.mdb", teacher):  # fetched once, for two drivers and their workers
        key = f"sets/train/{file.name}" if file.suffix == ".mdb" else "teacher.safetensors"
        assert bucket.num_reads(key) == -(-file.stat().st_size // CHUNK_BYTES)

    client = MlflowClient(f"sqlite:///{tmp_path}/mlflow.db")
    experiment = client.get_experiment_by_name("kdltr")
    assert experiment is not None
    (tracked,) = client.search_runs([experiment.experiment_id])
    assert (tracked.info.status, tracked.data.tags["resumed"]) == ("FINISHED", "1")
    history = client.get_metric_history(tracked.info.run_id, "train/loss")
    assert sorted(point.step for point in history) == list(range(1, STEPS + 1))

    again = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert again.returncode == 0
    assert f"Its table is in {run}/evaluation/table.md" in again.stderr

    # fmt: off
    command = [
        sys.executable, str(SCRIPTS / "evaluate.py"), run, "--data.cache-folder", "another-cache",
        "--data.benchmark-roots", f"{bucket.uri}/sets/words",
    ]
    # fmt: on
    read = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert read.returncode == 0, read.stderr
    assert read.stdout.strip() == table.strip()


def wait_for_object(bucket: Bucket, key: str, process: subprocess.Popen[bytes]) -> None:
    until = time.monotonic() + SECONDS_TO_CHECKPOINT
    while key not in bucket.objects():
        assert process.poll() is None, "it ended before it could be killed"
        assert time.monotonic() < until, f"there is no {key}"
        time.sleep(0.2)
