"""Work done ahead of whoever needs it, by threads of the same process."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Job = TypeVar("Job")
Result = TypeVar("Result")


def prefetch(make: Callable[[Job], Result], jobs: Iterable[Job], num_threads: int) -> Generator[Result]:
    """``make`` of every job, in order, worked out by threads that are at most two results each ahead.

    An error in a thread is raised here; closing the iterator ends the threads.
    """
    waiting: deque[Future[Result]] = deque()
    with ThreadPoolExecutor(num_threads, thread_name_prefix="ahead") as threads:
        try:
            for job in jobs:
                waiting.append(threads.submit(make, job))
                if len(waiting) > 2 * num_threads:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()
