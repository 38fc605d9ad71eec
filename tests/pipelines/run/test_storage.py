"""A run folder in an object store is what was finished in the local one, and each object of it is whole."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from kdltr_core.train.checkpoint import CheckpointStore
from pipelines.run.storage import Mirror
from tests.object_store import Bucket

pytestmark = pytest.mark.slow


def mirror(bucket: Bucket, local: Path) -> Mirror:
    local.mkdir(exist_ok=True)
    return Mirror(f"{bucket.uri}/runs/first", local)


def save(local: Path, step: int, best_step: int = 0, value: float | None = None, keep_last: int = 2) -> None:
    state = {"step": step, "weights": torch.full((1000,), step if value is None else value)}
    CheckpointStore(local / "checkpoints", keep_last).save(step, state, best_step)


def newest(local: Path) -> float:
    state = CheckpointStore(local / "checkpoints", 2).newest()
    assert state is not None
    return float(state["weights"][0])


def steps(keys: list[str]) -> list[int]:
    return sorted({int(found[1]) for key in keys if (found := re.search(r"step-(\d+)/", key))})


def content(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_a_run_folder_goes_there_and_comes_back(bucket: Bucket, tmp_path: Path) -> None:
    here = mirror(bucket, tmp_path / "here")
    files = {
        "config.yaml": b"name: first",
        "metrics.jsonl": b'{"step": 1}\n',
        "finished.json": b"{}",
        "student/student.safetensors": bytes(range(256)) * 1000,
        "student/config.yaml": b"",
        "evaluation/table.md": b"| a |",
    }
    for name, data in files.items():
        (here.local / name).parent.mkdir(exist_ok=True)
        (here.local / name).write_bytes(data)
    (here.local / ".lock").touch()
    (here.local / "student" / ".config.writing").touch()
    for path in ("config.yaml", here.local / "finished.json", "student", "evaluation"):
        here.push(path)
    here.push_journal(now=True)
    assert bucket.objects() == sorted(f"runs/first/{name}" for name in files)
    there = mirror(bucket, tmp_path / "there")
    assert sorted(there.pull("config.yaml", "student/*", "evaluation/*")) == sorted(
        name for name in files if name not in ("metrics.jsonl", "finished.json")
    )
    assert sorted(there.pull("*.json*")) == ["finished.json", "metrics.jsonl"]
    assert content(there.local) == files


def test_only_what_changed_is_pulled_again_and_replaces_what_was_here(bucket: Bucket, tmp_path: Path) -> None:
    bucket.put("runs/first/metrics.jsonl", b"one\n")
    bucket.put("runs/first/config.yaml", b"name: first")
    head = mirror(bucket, tmp_path / "head")
    assert sorted(head.pull("*")) == ["config.yaml", "metrics.jsonl"]
    assert head.pull("*") == []
    bucket.put("runs/first/metrics.jsonl", b"one\ntwo\n")
    assert head.pull("*") == ["metrics.jsonl"]
    assert (head.local / "metrics.jsonl").read_bytes() == b"one\ntwo\n"
    (head.local / "metrics.jsonl").unlink()
    assert head.pull("*") == ["metrics.jsonl"]
    assert head.pull("refused.txt") == []


def test_removing_needs_nothing_to_be_there(bucket: Bucket, tmp_path: Path) -> None:
    bucket.put("runs/first/refused.txt", b"no")
    mirror(bucket, tmp_path / "head").remove("refused.txt", "finished.json")
    assert bucket.objects() == []


def test_a_checkpoint_is_sealed_after_all_else_of_it_is_there(bucket: Bucket, tmp_path: Path) -> None:
    rank0 = mirror(bucket, tmp_path / "rank0")
    save(rank0.local, 400)
    rank0.push("checkpoints")
    requests = [
        line.split('"')[1]
        for line in bucket.server.log.read_text().splitlines()
        if f"/{bucket.name}/runs/first/checkpoints/step-00000400/" in line
    ]
    names = [re.search(r"step-00000400/([\w.]+)", request)[1] for request in requests]  # type: ignore[index]
    assert names.index("checkpoint.json") > len(names) - 1 - names[::-1].index("state.pt")


def unsealed(bucket: Bucket, folder: str) -> None:
    bucket.delete(f"{folder}/checkpoint.json")


def truncated(bucket: Bucket, folder: str) -> None:
    bucket.put(f"{folder}/state.pt", bucket.get(f"{folder}/state.pt")[:1000])


def without_weights(bucket: Bucket, folder: str) -> None:
    bucket.delete(f"{folder}/state.pt")


@pytest.mark.parametrize("damage", [unsealed, truncated, without_weights])
def test_a_checkpoint_that_is_not_whole_is_passed_over(
    damage: Callable[[Bucket, str], None], bucket: Bucket, tmp_path: Path
) -> None:
    rank0 = mirror(bucket, tmp_path / "rank0")
    for step in (400, 800):
        save(rank0.local, step)
        rank0.push_checkpoints(best_step=0)
    damage(bucket, "runs/first/checkpoints/step-00000800")
    node = mirror(bucket, tmp_path / "node")
    assert node.steps() == ([400] if damage is unsealed else [400, 800])
    with pytest.warns(UserWarning, match=r"step-00000800 in s3://.* is not whole; the one before it is used"):
        assert node.pull_newest_checkpoint() == 400
    assert newest(node.local) == 400
    mirror(bucket, tmp_path / "all").pull("checkpoints/*")
    with pytest.warns(UserWarning, match="the checkpoint before it is used"):  # who reads them here sees it too
        before = newest(tmp_path / "all")
    assert before == 400


def test_the_store_keeps_the_last_and_the_best_as_the_folder_does(bucket: Bucket, tmp_path: Path) -> None:
    rank0 = mirror(bucket, tmp_path / "rank0")
    for step in (100, 200, 300, 400, 500):
        save(rank0.local, step, best_step=min(step, 200))
        rank0.push_checkpoints(best_step=min(step, 200))
    assert steps(bucket.objects()) == [200, 400, 500]
    assert bucket.num_reads("runs/first/checkpoints/step-00000200/state.pt") == 0


def test_the_best_stays_when_another_node_goes_on_without_it(bucket: Bucket, tmp_path: Path) -> None:
    lost = mirror(bucket, tmp_path / "lost")
    for step in (100, 200, 300):
        save(lost.local, step, best_step=100)
    lost.push_checkpoints(best_step=100)
    other = mirror(bucket, tmp_path / "other")
    assert other.pull_newest_checkpoint() == 300
    for step in (400, 500):
        save(other.local, step, best_step=100)
        other.push_checkpoints(best_step=100)
    assert steps(bucket.objects()) == [100, 400, 500]


def test_a_node_without_checkpoints_removes_none(bucket: Bucket, tmp_path: Path) -> None:
    rank0 = mirror(bucket, tmp_path / "rank0")
    save(rank0.local, 400)
    rank0.push_checkpoints(best_step=0)
    mirror(bucket, tmp_path / "fresh").push_checkpoints(best_step=0)
    assert steps(bucket.objects()) == [400]


def test_a_step_that_was_trained_again_is_pushed_again_and_others_are_not(bucket: Bucket, tmp_path: Path) -> None:
    rank0 = mirror(bucket, tmp_path / "rank0")
    for step in (400, 800):
        save(rank0.local, step)
    rank0.push_checkpoints(best_step=0)
    unchanged = "runs/first/checkpoints/step-00000400/state.pt"
    bucket.put(unchanged, b"a mark")
    save(rank0.local, 800, value=-1.0)
    rank0.push_checkpoints(best_step=0)
    assert bucket.get(unchanged) == b"a mark"
    node = mirror(bucket, tmp_path / "node")
    assert node.pull_newest_checkpoint() == 800
    assert newest(node.local) == -1.0


def test_all_nodes_go_on_from_the_newest_of_the_store(bucket: Bucket, tmp_path: Path) -> None:
    """Also one that has a later checkpoint, which was never pushed, and one whose own of that step is another."""
    rank0 = mirror(bucket, tmp_path / "rank0")
    save(rank0.local, 400)
    rank0.push_checkpoints(best_step=0)
    save(rank0.local, 800)
    stale = mirror(bucket, tmp_path / "stale")
    save(stale.local, 400, value=-1.0)
    fresh = mirror(bucket, tmp_path / "fresh")
    for node in (rank0, stale, fresh):
        assert node.pull_newest_checkpoint() == 400
        assert newest(node.local) == 400.0
        assert [p.name for p in (node.local / "checkpoints").iterdir()] == ["step-00000400"]


def test_a_checkpoint_that_is_here_is_not_fetched_again(bucket: Bucket, tmp_path: Path) -> None:
    rank0 = mirror(bucket, tmp_path / "rank0")
    save(rank0.local, 400)
    rank0.push_checkpoints(best_step=0)
    weights = rank0.local / "checkpoints" / "step-00000400" / "state.pt"
    assert rank0.pull_newest_checkpoint() == 400
    assert bucket.num_reads("runs/first/checkpoints/step-00000400/state.pt") == 0
    weights.write_bytes(weights.read_bytes()[:-1])
    assert rank0.pull_newest_checkpoint() == 400
    assert newest(rank0.local) == 400.0


def test_without_checkpoints_in_the_store_a_run_begins_anew(bucket: Bucket, tmp_path: Path) -> None:
    node = mirror(bucket, tmp_path / "node")
    save(node.local, 400)
    assert node.pull_newest_checkpoint() is None
    assert CheckpointStore(node.local / "checkpoints", 2).newest() is None


def test_the_journal_is_pushed_now_and_then_and_at_the_end(bucket: Bucket, tmp_path: Path) -> None:
    rank0 = mirror(bucket, tmp_path / "rank0")
    metrics_log = rank0.local / "metrics.jsonl"
    for number, now, there in ((1, False, 1), (2, False, 1), (3, True, 3)):
        metrics_log.write_text(str(number))
        rank0.push_journal(now=now)
        assert bucket.get("runs/first/metrics.jsonl") == str(there).encode()


def test_a_store_that_fails_costs_a_warning_in_passing_and_an_error_at_the_end(bucket: Bucket, tmp_path: Path) -> None:
    rank0 = Mirror("s3://no-such-bucket/runs/first", tmp_path)
    (tmp_path / "metrics.jsonl").touch()
    with pytest.warns(UserWarning, match="there is no bucket .* the metrics log is sent again"):
        rank0.push_journal()
    with pytest.raises(ValueError, match="there is no bucket"):
        rank0.push_journal(now=True)


def test_reaching_the_store_is_tried_and_leaves_nothing(bucket: Bucket, tmp_path: Path) -> None:
    mirror(bucket, tmp_path).check_reachable()
    assert bucket.objects() == []
    with pytest.raises(ValueError, match=r"there is no bucket for s3://no-such-bucket/runs/first/.*; make it"):
        Mirror("s3://no-such-bucket/runs/first", tmp_path).check_reachable()


def test_a_claim_is_one_object_of_the_run(bucket: Bucket, tmp_path: Path) -> None:
    with mirror(bucket, tmp_path).claim():
        assert bucket.objects() == ["runs/first/claim.json"]
    assert bucket.objects() == []
