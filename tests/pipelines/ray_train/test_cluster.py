"""Coming to a Ray cluster, or starting one."""

from __future__ import annotations

import pytest
import ray

from pipelines.ray_train.cluster import connect
from pipelines.run.command_line import RunStopped

# What ray.init raised on a machine with a load of 40.
TOO_SLOW = Exception(
    "The current node timed out during startup. This could happen because some of the raylet failed to startup or the "
    "GCS has become overloaded."
)


class Starts:
    """Instead of ``ray.init``: fails so many times."""

    def __init__(self, error: Exception, num_failures: int) -> None:
        self.error, self.num_failures, self.num_calls = error, num_failures, 0

    def __call__(self, **options: object) -> None:
        self.num_calls += 1
        if self.num_calls <= self.num_failures:
            raise self.error


def started(monkeypatch: pytest.MonkeyPatch, error: Exception, num_failures: int) -> Starts:
    starts = Starts(error, num_failures)
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "init", starts)
    monkeypatch.setattr("pipelines.ray_train.cluster._measure", lambda is_own: is_own)
    return starts


def test_a_busy_machine_is_given_a_second_start(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    starts = started(monkeypatch, TOO_SLOW, 1)
    connect()
    assert starts.num_calls == 2
    assert "Ray did not start within its 30 s" in capsys.readouterr().err


def test_a_machine_too_busy_twice_is_said_in_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    starts = started(monkeypatch, TOO_SLOW, 2)
    with pytest.raises(RunStopped, match=r"did not start on this machine within 30 s, twice: .* when it is quieter"):
        connect()
    assert starts.num_calls == 2


def test_another_failure_is_not_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    starts = started(monkeypatch, RuntimeError("no space left in /dev/shm"), 1)
    with pytest.raises(RuntimeError, match="no space left"):
        connect()
    assert starts.num_calls == 1


@pytest.mark.parametrize(("address", "is_own"), [(None, True), ("", True), ("local", True), ("10.0.0.1:6379", False)])
def test_whose_cluster_it_is(monkeypatch: pytest.MonkeyPatch, address: str | None, is_own: bool) -> None:
    started(monkeypatch, TOO_SLOW, 0)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    if address is not None:
        monkeypatch.setenv("RAY_ADDRESS", address)
    assert connect() is is_own
