"""Coming to a Ray cluster, or starting one; and which of its workers were lost."""

from __future__ import annotations

import socket
import time
from pathlib import Path

import pytest
import ray
from ray.exceptions import ActorDiedError, ActorUnavailableError, OutOfMemoryError
from ray.train.v2._internal.exceptions import WorkerHealthCheckFailedError

from pipelines.ray_train.cluster import Cluster, LostWorkers, connect, lost_worker, may_start_gpus
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
        (TOO_SLOW, 3, r"did not start on this machine within 30 s, three times: .* when it is quieter", 3),
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
        with pytest.raises((RunStopped, RuntimeError), match=raised):
            connect()
    else:
        assert connect()
    assert starts.num_calls == num_calls


def test_a_cluster_that_is_gone_is_named_with_where_its_address_came_from(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{unused.getsockname()[1]}"
    monkeypatch.setenv("RAY_ADDRESS", address)
    with pytest.raises(ValueError, match=rf"answers at {address}, which RAY_ADDRESS names .* RAY_ADDRESS=local"):
        connect()
    remembered = tmp_path / "ray" / "ray_current_cluster"  # what `ray start` left, before the machine lost its power
    remembered.parent.mkdir()
    remembered.write_text(address)
    monkeypatch.setenv("RAY_ADDRESS", "")
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
    with pytest.raises(ValueError, match=rf"answers at {address}, which {remembered} names .* rm {remembered}"):
        connect()


@pytest.mark.slow
def test_what_accepts_and_never_answers_is_no_cluster_within_a_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        monkeypatch.setenv("RAY_ADDRESS", address)
        begun = time.monotonic()
        with pytest.raises(ValueError, match=f"no Ray cluster answers at {address}"):
            connect()
    assert time.monotonic() - begun < 60


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


def missed(failure: Exception) -> Exception:
    """As Ray Train hands on the failure of a worker's process."""
    return WorkerHealthCheckFailedError("A worker health check failed.", failure)


def died(actor_id: str) -> Exception:
    error = ActorDiedError()
    error.actor_id = actor_id
    return missed(error)


@pytest.mark.parametrize(
    ("failures", "said"),
    [
        ({0: RuntimeError("Connection closed by peer\nmore"), 1: missed(ActorDiedError())}, "worker 1 was lost"),
        ({2: missed(ActorUnavailableError("gone", None)), 5: missed(ActorDiedError())}, "worker 2 was lost"),
        ({3: missed(OutOfMemoryError("15 GB / 16 GB"))}, "worker 3 was lost for want of memory"),
        ({1: RuntimeError("second"), 0: OSError("\n no such file \n")}, "worker 0 failed with OSError: no such file"),
        ({0: MemoryError()}, "worker 0 failed with MemoryError"),
    ],
)
def test_the_worker_that_died_is_named_before_those_that_missed_it(failures: dict[int, Exception], said: str) -> None:
    assert lost_worker(failures)[0] == said


def test_word_of_lost_workers_is_left_in_the_run_folder_and_a_mistake_of_the_input_is_none(tmp_path: Path) -> None:
    """A second kill of worker 0, seconds after it was started anew, is another one, for all that it reads the same."""
    left = []
    for failures in (
        {0: died("first")},
        {0: died("first"), 1: died("next")},
        {0: died("second")},
        {1: ValueError("x")},
    ):
        LostWorkers(str(tmp_path)).after_exception(None, failures)
        left.append((tmp_path / "lost.txt").read_text())
    assert left[0] == left[1] != left[2] == left[3]
    assert {text.splitlines()[0] for text in left} == {"worker 0 was lost"}
