"""Processes that work for this one and end with it."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context, parent_process
from typing import Any


def open_processes(num: int, begin: Callable[..., object] | None = None, *given: Any) -> ProcessPoolExecutor:
    """So many, each of which begins with that call."""
    # Not forked: the caller may have threads, of Ray for instance, whose locks a child would inherit.
    return ProcessPoolExecutor(num, get_context("spawn"), initializer=_begin, initargs=(begin, given))


def _begin(begin: Callable[..., object] | None, given: tuple[Any, ...]) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, who ends this process
    parent = parent_process()
    assert parent is not None

    def wait() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()
    if begin:
        begin(*given)
