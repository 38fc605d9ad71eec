"""A run in a bucket is what was finished in the folder worked in: each object whole, on any machine, of one driver."""

from __future__ import annotations

import os
import re
import threading
import time
from contextlib import suppress
from pathlib import Path

import pytest
import torch

from kdltr_core.train.checkpoint import CheckpointStore
from pipelines.run import storage
from pipelines.run.storage import Storage
from tests.object_store import Bucket

pytestmark = pytest.mark.slow
RUN = "runs/first"


def on(machine: Path, bucket: Bucket) -> Storage:
    """The run as a process of that machine sees it."""
    machine.mkdir(exist_ok=True)
    return Storage(f"{bucket.uri}/{RUN}", machine)


def write(run: Storage, name: str, content: bytes = b"") -> Path:
    (run.path / name).parent.mkdir(parents=True, exist_ok=True)
    (run.path / name).write_bytes(content)
    return run.path / name


def save(run: Storage, step: int, best: int = 0, value: float | None = None, keep_last: int = 2) -> None:
    """A checkpoint, as ``fit`` writes and hands it on."""
    state = {"step": step, "weights": torch.full((1000,), step if value is None else value)}
    run.send(CheckpointStore(run.path / "checkpoints", keep_last).save(step, state, best), best)


def newest(run: Storage) -> float:
    state = CheckpointStore(run.path / "checkpoints", 2).newest()
    return -1 if state is None else float(state["weights"][0])


def steps(bucket: Bucket) -> list[int]:
    return sorted({int(found[1]) for key in bucket.objects() if (found := re.search(r"step-(\d+)/", key))})


def content(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_a_folder_is_where_it_is_worked_on_and_nothing_is_moved(tmp_path: Path) -> None:
    run = Storage(str(tmp_path / "first"), tmp_path / "copy")
    write(run, "metrics.jsonl", b"{}\n")
    save(run, 400)
    run.pull("metrics.jsonl", "student")
    run.push("metrics.jsonl")
    run.send_rest()
    assert (run.pull_newest_checkpoint(), run.steps(), newest(run)) == (None, [400], 400)
    assert run.named("a/b.txt") == str(tmp_path / "first" / "a" / "b.txt")
    assert not (tmp_path / "copy").exists()


def test_files_and_folders_go_there_and_come_to_another_machine(bucket: Bucket, tmp_path: Path) -> None:
    here, there = on(tmp_path / "here", bucket), on(tmp_path / "there", bucket)
    files = {"config.yaml": b"name: first", "student/student.safetensors": bytes(range(256)) * 1000, "a/b/c": b""}
    for name, data in files.items():
        write(here, name, data)
    write(here, "student/.config.writing")
    here.push("config.yaml", "student", "a", "not-there.txt")
    assert bucket.objects() == sorted(f"{RUN}/{name}" for name in files)
    there.pull("config.yaml", "student", "a", "not-there.txt")
    assert content(there.path) == files
    assert there.named("a/b") == f"{bucket.uri}/{RUN}/a/b"


def test_a_copy_becomes_what_the_bucket_has_and_only_what_changed_is_fetched(bucket: Bucket, tmp_path: Path) -> None:
    run = on(tmp_path / "head", bucket)
    bucket.put(f"{RUN}/metrics.jsonl", b"one\n")
    write(run, "metrics.jsonl", b"what an earlier group could not send\n")
    write(run, "student/student.safetensors", b"of a run that was removed")
    for _ in range(2):
        run.pull("metrics.jsonl", "student")
        assert content(run.path) == {"metrics.jsonl": b"one\n"}
    assert bucket.num_reads(f"{RUN}/metrics.jsonl") == 1
    bucket.put(f"{RUN}/metrics.jsonl", b"one\ntwo\n")
    run.pull("metrics.jsonl")
    assert content(run.path) == {"metrics.jsonl": b"one\ntwo\n"}
    run.remove("metrics.jsonl", "refused.txt")
    assert bucket.objects() == []
    assert content(run.path) == {}


def test_the_log_and_the_best_are_there_before_the_checkpoint_and_its_seal_is_last(
    bucket: Bucket, tmp_path: Path
) -> None:
    run = on(tmp_path, bucket)
    write(run, "metrics.jsonl")
    run.send(write(run, "student/student.safetensors").parent, 400)
    save(run, 400, best=400)
    lines = bucket.server.log.read_text().splitlines()
    names = ["metrics.jsonl", "student/student.safetensors", "checkpoints/step-00000400/state.pt"]
    names.append("checkpoints/step-00000400/checkpoint.json")
    first = [min(i for i, line in enumerate(lines) if f" /{bucket.name}/{RUN}/{name}" in line) for name in names]
    assert first == sorted(first)


@pytest.mark.parametrize("damage", ["unsealed", "truncated", "without weights"])
def test_a_checkpoint_that_is_not_whole_is_passed_over(damage: str, bucket: Bucket, tmp_path: Path) -> None:
    run = on(tmp_path / "rank0", bucket)
    for step in (400, 800):
        save(run, step)
    folder = f"{RUN}/checkpoints/step-00000800"
    if damage == "truncated":
        bucket.put(f"{folder}/state.pt", bucket.get(f"{folder}/state.pt")[:1000])
    else:
        bucket.delete(f"{folder}/{'checkpoint.json' if damage == 'unsealed' else 'state.pt'}")
    other = on(tmp_path / "other", bucket)
    assert other.steps() == ([400] if damage == "unsealed" else [400, 800])
    with pytest.warns(UserWarning, match=r"s3://.*/step-00000800 is not whole; the one before it is used"):
        assert other.pull_newest_checkpoint() == 400
    assert newest(other) == 400


def test_the_last_and_the_best_are_kept_when_another_machine_goes_on_too(bucket: Bucket, tmp_path: Path) -> None:
    lost, other = on(tmp_path / "lost", bucket), on(tmp_path / "other", bucket)
    for step in (100, 200, 300, 400):
        save(lost, step, best=min(step, 200))
    assert steps(bucket) == [200, 300, 400]
    assert other.pull_newest_checkpoint() == 400
    for step in (500, 600):
        save(other, step, best=200)
    assert steps(bucket) == [200, 500, 600]
    assert bucket.num_reads(f"{RUN}/checkpoints/step-00000200/state.pt") == 0


def test_all_machines_go_on_from_the_newest_of_the_bucket(bucket: Bucket, tmp_path: Path) -> None:
    """Also one that has a later checkpoint, which was never sent, and one whose own is another or damaged."""
    rank0, stale, fresh = (on(tmp_path / name, bucket) for name in ("rank0", "stale", "fresh"))
    save(rank0, 400)
    for run, step, value in ((rank0, 800, 800.0), (stale, 400, -1.0)):
        CheckpointStore(run.path / "checkpoints", 2).save(step, {"weights": torch.full((1,), value)}, 0)
    for run in (rank0, stale, fresh):
        assert run.pull_newest_checkpoint() == 400
        assert newest(run) == 400
        assert [p.name for p in (run.path / "checkpoints").iterdir()] == ["step-00000400"]
    weights = f"{RUN}/checkpoints/step-00000400/state.pt"
    assert bucket.num_reads(weights) == 2  # rank0 had it
    file = rank0.path / "checkpoints" / "step-00000400" / "state.pt"
    file.write_bytes(file.read_bytes()[:-1])
    assert (rank0.pull_newest_checkpoint(), newest(rank0)) == (400, 400)
    for name in bucket.objects():
        bucket.delete(name)
    assert (rank0.pull_newest_checkpoint(), newest(rank0)) == (None, -1)


def test_what_the_bucket_did_not_take_is_sent_with_the_next_checkpoint_or_raised_at_the_end(
    bucket: Bucket, tmp_path: Path
) -> None:
    run, client = on(tmp_path, bucket), bucket.server.client("s3")
    write(run, "metrics.jsonl")
    client.delete_bucket(Bucket=bucket.name)
    with pytest.warns(UserWarning, match="cannot be read or written .*; training continues and this is sent"):
        run.send(write(run, "student/student.safetensors").parent, 400)
    with pytest.raises(OSError, match="cannot be read or written"):
        run.send_rest()
    client.create_bucket(Bucket=bucket.name)
    save(run, 400, best=400)
    assert f"{RUN}/student/student.safetensors" in bucket.objects()
    assert steps(bucket) == [400]


def test_a_run_that_is_held_is_refused_and_free_again_at_its_end(bucket: Bucket, tmp_path: Path) -> None:
    run = on(tmp_path, bucket)
    refused = rf"process {os.getpid()} on .* is training in {bucket.uri}/{RUN}; wait for it, or give another --name"

    def hold(then: type[BaseException]) -> None:
        with run.claim():
            with pytest.raises(ValueError, match=refused), on(tmp_path, bucket).claim():
                pass
            raise then

    for end in (RuntimeError, KeyboardInterrupt):
        with pytest.raises(end):
            hold(end)
        assert bucket.objects() == []


def test_the_claim_of_a_driver_that_was_killed_expires(
    bucket: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(storage, "SECONDS_OF_A_CLAIM", 3.0)
    bucket.put(f"{RUN}/claims/process 4711 on gpu-7", b"")
    with (
        pytest.raises(ValueError, match=r"process 4711 on gpu-7 .* If it is dead, .* resumes \d s from now"),
        on(tmp_path, bucket).claim(),
    ):
        pass
    time.sleep(4)
    with on(tmp_path, bucket).claim():
        assert not any("4711" in name for name in bucket.objects())


def test_a_claim_is_refreshed_while_it_is_held(bucket: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storage, "SECONDS_BETWEEN_REFRESHES", 0.2)
    with on(tmp_path, bucket).claim():
        (key,) = bucket.objects()

        def written() -> object:
            return bucket.server.client("s3").head_object(Bucket=bucket.name, Key=key)["LastModified"]

        first = written()
        while written() == first:
            time.sleep(0.1)


def test_two_who_claim_at_one_moment_do_not_both_get_it(bucket: Bucket, tmp_path: Path) -> None:
    start, both_decided = threading.Barrier(2), threading.Barrier(2)
    outcomes: list[str] = []

    def contend() -> None:
        run = on(tmp_path, bucket)
        start.wait()
        with suppress(ValueError), run.claim():
            outcomes.append("held")
            both_decided.wait()
            return
        both_decided.wait()

    threads = [threading.Thread(target=contend) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(outcomes) < 2
