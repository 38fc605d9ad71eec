"""What a machine of a cluster lacks is found out there, and said with the way out."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipelines.ray_train.nodes import may_start_gpus, what_is_wrong_here
from tests.object_store import Bucket

CLUSTER = """
available_node_types:
    head: {resources: {CPU: 4}, node_config: {}}
    worker: {resources: {CPU: 8, GPU: %d}, max_workers: %d, node_config: {}}
"""


def test_nothing_is_wrong_where_the_folder_is_shared_and_the_data_is_there(tmp_path: Path) -> None:
    marker = tmp_path / "marker"
    marker.write_text("token")
    assert what_is_wrong_here(str(tmp_path), marker, "token", [str(tmp_path)]) == ""


@pytest.mark.parametrize("content", [None, "that of another run"])
def test_a_run_folder_that_is_not_shared_is_noticed(tmp_path: Path, content: str | None) -> None:
    marker = tmp_path / "marker"
    if content:
        marker.write_text(content)
    wrong = what_is_wrong_here(str(tmp_path), marker, "token", [])
    assert wrong.startswith(f"does not see the run folder {tmp_path}, which all machines must share")
    assert "s3://" in wrong


def test_data_that_is_not_there_is_named(tmp_path: Path) -> None:
    marker = tmp_path / "marker"
    marker.write_text("token")
    wrong = what_is_wrong_here(str(tmp_path), marker, "token", [str(tmp_path), "/nowhere/IC13", "/nowhere/teacher.pt"])
    assert wrong.startswith("does not have /nowhere/IC13, /nowhere/teacher.pt: put it there")


@pytest.mark.slow
def test_what_is_in_an_object_store_is_asked_for_there(bucket: Bucket) -> None:
    bucket.put("sets/IC13/data.mdb", b"")
    run, words = f"{bucket.uri}/runs/first", f"{bucket.uri}/sets"
    assert what_is_wrong_here(run, None, "", [words]) == ""
    assert bucket.objects() == ["sets/IC13/data.mdb"]
    wrong = what_is_wrong_here(run, None, "", [words, f"{bucket.uri}/stes"])
    assert wrong.startswith(f"cannot use what is in the object store: there is nothing at {bucket.uri}/stes")
    wrong = what_is_wrong_here("s3://no-such-bucket/runs/first", None, "", [])
    assert "there is no bucket for s3://no-such-bucket/runs/first" in wrong


@pytest.mark.parametrize(
    ("text", "may"),
    [
        (CLUSTER % (1, 4), True),
        (CLUSTER % (0, 4), False),
        (CLUSTER % (1, 0), False),
        ("available_node_types: {worker: {max_workers: 2}}", False),
        ("provider: {type: local}", False),
        ("[1, 2]", False),
        ("{", False),
        (None, False),
    ],
)
def test_whether_gpus_may_be_started_is_read_from_what_the_cluster_was_begun_with(
    text: str | None, may: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    if text is not None:
        (tmp_path / "ray_bootstrap_config.yaml").write_text(text)
    assert may_start_gpus() is may
