"""What a person is told of workers and machines that are lost."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from ray.exceptions import ActorDiedError, ActorUnavailableError, OutOfMemoryError
from ray.train.v2._internal.exceptions import WorkerHealthCheckFailedError

from pipelines.watch import _Failures, change_sentence, failure_sentence


def missed(failure: Exception) -> Exception:
    """As Ray Train hands on the failure of a worker's process."""
    return WorkerHealthCheckFailedError("A worker health check failed.", failure)


@pytest.mark.parametrize(
    ("failures", "said"),
    [
        ({0: RuntimeError("Connection closed by peer\nmore"), 1: missed(ActorDiedError())}, "worker 1 was lost"),
        ({2: missed(ActorUnavailableError("gone", None)), 5: missed(ActorDiedError())}, "worker 2 was lost"),
        ({3: missed(OutOfMemoryError("15 GB / 16 GB"))}, "worker 3 was lost for want of memory"),
        (
            {1: RuntimeError("second"), 0: OSError("\n no such file \n at all")},
            "worker 0 failed with OSError: no such file",
        ),
        ({0: MemoryError()}, "worker 0 failed with MemoryError"),
    ],
)
def test_the_worker_that_died_is_named_before_those_that_missed_it(failures: dict[int, Exception], said: str) -> None:
    assert failure_sentence(failures) == said


def died(actor_id: str) -> ActorDiedError:
    error = ActorDiedError()
    error.actor_id = actor_id
    return error


def test_a_failure_that_is_found_again_is_told_once_and_another_of_the_same_worker_again() -> None:
    """A second kill of worker 0, seconds after it was started anew, leads to the same sentence."""
    told: list[str] = []
    callback = _Failures(SimpleNamespace(put=SimpleNamespace(remote=told.append)))
    for failures in (
        {0: missed(died("first"))},
        {0: missed(died("first")), 1: missed(died("its neighbour"))},
        {0: missed(died("second"))},
        {0: missed(died("second"))},
        {1: RuntimeError("Connection closed by peer")},
        {1: RuntimeError("Connection closed by peer")},
        {1: ValueError("the input's mistake")},
    ):
        callback.after_exception(None, failures)
    assert told == [
        "worker 0 was lost",
        "worker 0 was lost",
        "worker 1 failed with RuntimeError: Connection closed by peer",
    ]


@pytest.mark.parametrize(
    ("there", "said"),
    [
        (1, "1 of 4 GPUs are there; the run waits until there are 2"),
        (2, "2 of 4 GPUs are there; the run goes on with as many workers"),
        (3, "3 of 4 GPUs are there; the run goes on with as many workers"),
        (4, "all 4 GPUs are there"),
    ],
)
def test_what_the_number_of_machines_means_for_the_run_is_said(there: int, said: str) -> None:
    assert change_sentence("GPU", there, fewest=2, wanted=4) == said
