"""Coming to a Ray cluster, or starting one."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest
import ray

from pipelines.ray_train.cluster import Cluster, connect, may_start_gpus
from pipelines.run.command_line import RunStopped

# What ray.init raised on a machine with a load of 40.
TOO_SLOW = Exception(
    "The current node timed out during startup. This could happen because some of the raylet failed to startup or the "
    "GCS has become overloaded."
)
CLUSTER = """
available_node_types:
    head: {resources: {CPU: 4}, node_config: {}}
    worker: {resources: {CPU: 8, GPU: %d}, max_workers: %d, node_config: {}}
"""


class Starts:
    """Instead of ``ray.init``: fails so many times."""

    def __init__(self, error: Exception, num_failures: int) -> None:
        self.error, self.num_failures, self.num_calls = error, num_failures, 0

    def __call__(self, **options: object) -> None:
        self.num_calls += 1
        if self.num_calls <= self.num_failures:
            raise self.error


@pytest.mark.parametrize(
    ("error", "num_failures", "raised", "num_calls"),
    [
        (TOO_SLOW, 2, None, 3),
        (TOO_SLOW, 3, "did not start on this machine: .* timed out during startup", 3),
        (RuntimeError("no space left in /dev/shm"), 1, "no space left", 1),
    ],
)
def test_a_busy_machine_is_given_three_starts_and_another_failure_is_none(
    monkeypatch: pytest.MonkeyPatch, error: Exception, num_failures: int, raised: str | None, num_calls: int
) -> None:
    starts = Starts(error, num_failures)
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "init", starts)
    monkeypatch.setattr("pipelines.ray_train.cluster._measure", lambda is_own: is_own)
    monkeypatch.setenv("RAY_ADDRESS", "")
    if raised:
        with pytest.raises(RunStopped, match=raised):
            connect()
    else:
        assert connect()
    assert starts.num_calls == num_calls


@pytest.mark.parametrize("named_by", ["environment", "what `ray start` left before the power failed"])
def test_a_cluster_that_is_gone_is_named_with_the_way_out(
    named_by: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{unused.getsockname()[1]}"
    monkeypatch.setenv("RAY_ADDRESS", address if named_by == "environment" else "")
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
    (tmp_path / "ray").mkdir()
    (tmp_path / "ray" / "ray_current_cluster").write_text(address)
    with pytest.raises(ValueError, match=rf"no Ray cluster answers at {address} .* set RAY_ADDRESS=local"):
        connect()


@pytest.mark.slow
def test_what_accepts_and_never_answers_is_no_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        monkeypatch.setenv("RAY_ADDRESS", address)
        with pytest.raises(ValueError, match=f"no Ray cluster answers at {address}"):
            connect()


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


@pytest.mark.parametrize(
    ("text", "may"),
    [
        (CLUSTER % (1, 4), True),
        (CLUSTER % (0, 4), False),
        (CLUSTER % (1, 0), False),
        ("provider: {type: local}", False),
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
