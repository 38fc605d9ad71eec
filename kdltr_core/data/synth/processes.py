"""Work shared among processes of this machine."""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
from collections.abc import Callable, Generator, Iterable
from contextlib import ExitStack
from queue import SimpleQueue
from types import TracebackType
from typing import Any, TypeVar

from kdltr_core.data.prefetch import prefetch

Job = TypeVar("Job")
Result = TypeVar("Result")


def map_in_processes(make: Callable[[Job], Result], jobs: Iterable[Job], num_processes: int) -> Generator[Result]:
    """``make`` of every job, in order, worked out by so many other processes.

    What another process does not answer, because it could not start or was killed, is worked out in this one, where
    an error of ``make`` itself is then raised. Closing the iterator ends the processes.

    Args:
        make: is pickled, as jobs and results are; a function of ``__main__`` is worked out here.
        num_processes: at least 1.
    """
    with ExitStack() as stack:
        idle: SimpleQueue[_Process] = SimpleQueue()
        for _ in range(num_processes):
            idle.put(stack.enter_context(_Process(make)))

        def ask(job: Job) -> Result:
            process = idle.get()
            try:
                answer: Result = process.ask(job)
            except (EOFError, OSError, pickle.UnpicklingError):
                answer = make(job)
            finally:
                idle.put(process)
            return answer

        yield from prefetch(ask, jobs, num_processes)


class _Process:
    """Python with this module as its main, started at once.

    Not one of multiprocessing: that imports the caller's main script into every child, and a script without a guard
    would ask there for the very words that its parent holds the lock of.
    """

    def __init__(self, make: Callable[..., Any]) -> None:
        found = os.pathsep.join(path or os.getcwd() for path in sys.path)
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", __name__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=os.environ | {"PYTHONPATH": found},
            start_new_session=True,  # Ctrl-C is for the parent, who ends it
        )
        self._make = make

    def __enter__(self) -> _Process:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.communicate()

    def ask(self, job: Any) -> Any:
        """Raises: EOFError, OSError or UnpicklingError if the process is no more."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        pickle.dump((self._make, job), self._process.stdin)
        self._process.stdin.flush()
        return pickle.load(self._process.stdout)


def _answer() -> None:
    """What the other process does, until its parent is gone."""
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    while True:
        try:
            make, job = pickle.load(sys.stdin.buffer)
        except EOFError:
            return
        pickle.dump(make(job), sys.stdout.buffer)
        sys.stdout.buffer.flush()


if __name__ == "__main__":
    _answer()
