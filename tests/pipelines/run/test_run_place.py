"""What the workers of a run leave where it is, and what they find there: a folder, or an object store."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from kdltr_core.config import RunConfig
from kdltr_core.distributed import DistributedContext
from kdltr_core.recognizers.weights import save_student
from kdltr_core.train.checkpoint import CheckpointStore
from pipelines.run.metrics_log import read_records
from pipelines.run.run_place import RunPlace, run_place
from tests.object_store import Bucket

RUN = "runs/first"
FIRST, OTHER = DistributedContext(), DistributedContext(rank=1)


def place_on(node: Path, bucket: Bucket) -> RunPlace:
    """As a worker on that node sees it."""
    return run_place(f"{bucket.uri}/{RUN}", RunConfig().override({"data.cache_folder": str(node)}))


def save(place: RunPlace, step: int, *, is_best: bool) -> None:
    """A validation, as ``fit`` writes it."""
    if is_best:
        (place.path / "student").mkdir(exist_ok=True)
        file = place.path / "student" / "student.safetensors"
        save_student(file, {"weights": torch.tensor([step])}, {"step": str(step)})
        place.written(place.path / "student")
    state = {"step": step, "weights": torch.full((1000,), step)}
    place.written(CheckpointStore(place.path / "checkpoints", 2).save(step, state, best_step=step))


def train_to(place: RunPlace, step: int, *, is_best: bool = True) -> None:
    metrics_log = place.open_metrics_log()
    place.begin(FIRST)
    metrics_log.record(step, {"train/loss": 1.0})
    save(place, step, is_best=is_best)


def newest(place: RunPlace) -> int:
    state = CheckpointStore(place.path / "checkpoints", 2).newest()
    return -1 if state is None else int(state["step"])


def test_a_folder_is_its_own_place(tmp_path: Path) -> None:
    place = run_place(str(tmp_path), RunConfig())
    assert type(place) is RunPlace
    train_to(place, 400)
    place.recorded()
    place.trained(FIRST)
    place.finished(FIRST)
    names = {file.name for file in tmp_path.rglob("*") if file.is_file()}
    assert names == {"metrics.jsonl", "state.pt", "checkpoint.json", "student.safetensors"}
    assert not place.is_refused
    place.refuse("the teacher does not fit")
    assert run_place(str(tmp_path), RunConfig()).is_refused


@pytest.mark.slow
def test_another_node_goes_on_from_what_the_first_sent(bucket: Bucket, tmp_path: Path) -> None:
    train_to(place_on(tmp_path / "lost", bucket), 400)
    other = place_on(tmp_path / "other", bucket)
    other.open_metrics_log()
    other.begin(FIRST)
    assert newest(other) == 400
    assert (other.path / "student" / "student.safetensors").is_file()
    assert [record.step for record in read_records(other.path / "metrics.jsonl")[0]] == [400]


@pytest.mark.slow
def test_what_was_not_sent_does_not_count(bucket: Bucket, tmp_path: Path) -> None:
    """A node that begins anew forgets what only it has, of a run that was removed or of steps after the last sent."""
    node = tmp_path / "node"
    train_to(place_on(node, bucket), 400)
    for name in bucket.objects():
        bucket.delete(name)
    place = place_on(node, bucket)
    place.open_metrics_log()
    place.begin(FIRST)
    assert newest(place) == -1
    assert not (place.path / "student").exists()
    assert read_records(place.path / "metrics.jsonl")[0] == []


@pytest.mark.slow
def test_the_best_and_the_journal_are_there_before_the_checkpoint_that_speaks_of_them(
    bucket: Bucket, tmp_path: Path
) -> None:
    train_to(place_on(tmp_path, bucket), 400)
    lines = bucket.server.log.read_text().splitlines()
    names = ["metrics.jsonl", "student/student.safetensors", "checkpoints/step-00000400/state.pt"]
    names.append("checkpoints/step-00000400/checkpoint.json")
    last = [max(i for i, line in enumerate(lines) if f" /{bucket.name}/{RUN}/{name}" in line) for name in names]
    assert last == sorted(last)


@pytest.mark.slow
def test_what_the_store_did_not_take_is_sent_with_the_next_checkpoint(bucket: Bucket, tmp_path: Path) -> None:
    place = place_on(tmp_path, bucket)
    place.open_metrics_log().record(0, {"train/loss": 1.0})
    place.begin(FIRST)
    client = bucket.server.client("s3")
    client.delete_bucket(Bucket=bucket.name)
    with pytest.warns(UserWarning, match="there is no bucket .*; training goes on and this is sent with the next"):
        save(place, 400, is_best=True)
    client.create_bucket(Bucket=bucket.name)
    save(place, 800, is_best=False)
    there = bucket.objects()
    assert f"{RUN}/student/student.safetensors" in there
    assert {name.split("/")[3] for name in there if "checkpoints" in name} == {"step-00000400", "step-00000800"}


@pytest.mark.slow
def test_workers_that_do_not_go_on_from_the_same_checkpoint_do_not_begin(bucket: Bucket, tmp_path: Path) -> None:
    class BesideOneAt400(DistributedContext):
        def gather(self, value: Any) -> list[Any]:
            return [value, 400]

    train_to(place_on(tmp_path / "one", bucket), 400)
    node = place_on(tmp_path / "two", bucket)
    node.open_metrics_log()
    node.begin(BesideOneAt400())
    save(node, 800, is_best=False)
    with pytest.raises(RuntimeError, match=r"is not one for all: \[800, 400\]"):
        node.begin(BesideOneAt400())


@pytest.mark.slow
def test_at_the_end_every_node_finds_the_best_and_the_store_has_it_all(bucket: Bucket, tmp_path: Path) -> None:
    first, other = place_on(tmp_path / "first", bucket), place_on(tmp_path / "other", bucket)
    other.begin(OTHER)
    train_to(first, 400)
    first.trained(FIRST)
    other.trained(OTHER)
    best = "student/student.safetensors"
    assert (other.path / best).read_bytes() == (first.path / best).read_bytes() == bucket.get(f"{RUN}/{best}")
    (first.path / "evaluation").mkdir()
    (first.path / "evaluation" / "table.md").write_text("| a |")
    with (first.path / "metrics.jsonl").open("a") as metrics_log:
        metrics_log.write("{}\n")
    for place, world in ((other, OTHER), (first, FIRST)):
        place.finished(world)
        assert not place.path.exists()
    assert bucket.get(f"{RUN}/evaluation/table.md") == b"| a |"
    assert bucket.get(f"{RUN}/metrics.jsonl").endswith(b"{}\n")


@pytest.mark.slow
def test_a_refusal_is_seen_by_all_nodes_until_the_driver_takes_it_away(bucket: Bucket, tmp_path: Path) -> None:
    one, two = place_on(tmp_path / "one", bucket), place_on(tmp_path / "two", bucket)
    assert not two.is_refused
    one.refuse("the teacher does not fit")
    assert one.is_refused
    assert two.is_refused
    assert bucket.get(f"{RUN}/refused.txt") == b"the teacher does not fit"
    bucket.delete(f"{RUN}/refused.txt")
    assert not one.is_refused
