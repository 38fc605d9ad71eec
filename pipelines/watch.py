"""What a person is told of workers and machines that are lost, while the work is done on them."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

import ray
from ray.exceptions import OutOfMemoryError, RayError
from ray.train import UserCallback
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from pipelines.ray_train.nodes import num_usable

SECONDS_BETWEEN_LOOKS = 5.0
SECONDS_TO_ANSWER = 30.0
SECONDS_BETWEEN_REPEATS = 60.0


@contextmanager
def watched(kind: str, fewest: int, wanted: int, say: Callable[[str], None]) -> Iterator[UserCallback]:
    """Within it a person is told which workers fail, and when machines go and come back.

    Args:
        kind: "CPU" or "GPU".
        fewest, wanted: workers that the run can go on with, and that it wants; each takes one of the kind.
        say: receives a sentence.

    Yields: the callback that Ray Train is to be given.
    """
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    mailbox: Any = ray.remote(num_cpus=0)(_Mailbox).options(scheduling_strategy=here).remote()
    stop, earlier = threading.Event(), min(num_usable(kind), wanted)

    def look() -> None:
        nonlocal earlier
        with suppress(RayError):  # the next look may succeed
            for sentence in ray.get(mailbox.take.remote(), timeout=SECONDS_TO_ANSWER):
                say(sentence)
            there = min(num_usable(kind), wanted)
            if there != earlier:
                say(change_sentence(kind, there, fewest, wanted))
            earlier = there

    def keep_looking() -> None:
        while not stop.wait(SECONDS_BETWEEN_LOOKS):
            look()

    thread = threading.Thread(target=keep_looking, name="watch-machines", daemon=True)
    thread.start()
    try:
        yield _Failures(mailbox)
    finally:
        stop.set()
        thread.join()
        ray.kill(mailbox)


def change_sentence(kind: str, there: int, fewest: int, wanted: int) -> str:
    """What the number of CPUs or GPUs that are there means for the run."""
    if there < fewest:
        return f"{there} of {wanted} {kind}s are there; the run waits until there are {fewest}"
    if there < wanted:
        return f"{there} of {wanted} {kind}s are there; the run goes on with as many workers"
    return f"all {wanted} {kind}s are there"


def failure_sentence(failures: Mapping[int, Exception]) -> str:
    """Which worker failed, and what it said. One that died tells more than those that then missed it."""
    causes = _causes(failures)
    if died := _died(causes):
        memory = " for want of memory" if isinstance(causes[min(died)], OutOfMemoryError) else ""
        return f"worker {min(died)} was lost{memory}"
    rank = min(causes)
    lines = [line.strip() for line in str(causes[rank]).splitlines() if line.strip()]
    return f"worker {rank} failed with {': '.join([type(causes[rank]).__name__, *lines[:1]])}"


def failed_process(failures: Mapping[int, Exception]) -> str:
    """Which process it was that ``failure_sentence`` calls lost: a worker that was started again is another one."""
    causes = _causes(failures)
    died = _died(causes)
    return str(getattr(causes[min(died)], "actor_id", "")) if died else ""


def _causes(failures: Mapping[int, Exception]) -> dict[int, Exception]:
    return {rank: getattr(failure, "health_check_failure", failure) for rank, failure in failures.items()}


def _died(causes: Mapping[int, Exception]) -> list[int]:
    return [rank for rank, cause in causes.items() if isinstance(cause, RayError)]


class _Mailbox:
    """Sentences on their way from Ray Train's controller, which is a process of its own, to the driver."""

    def __init__(self) -> None:
        self._sentences: list[str] = []

    def put(self, sentence: str) -> None:
        self._sentences.append(sentence)

    def take(self) -> list[str]:
        sentences, self._sentences = self._sentences, []
        return sentences


class _Failures(UserCallback):
    """Sends word of failed workers. A mistake in the input is not among them: the run ends with it."""

    def __init__(self, mailbox: Any) -> None:
        self._mailbox = mailbox
        self._last, self._told = ("", ""), 0.0

    def after_exception(self, run_context: Any, worker_exceptions: dict[int, Exception]) -> None:
        if any(isinstance(error, ValueError) for error in worker_exceptions.values()):
            return
        told = failure_sentence(worker_exceptions), failed_process(worker_exceptions)
        # Ray asks every few seconds, and may find the same failure each time.
        if told != self._last or time.monotonic() - self._told > SECONDS_BETWEEN_REPEATS:
            self._mailbox.put.remote(told[0])
        self._last, self._told = told, time.monotonic()
