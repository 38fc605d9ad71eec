"""One run, one writer, where no lock reaches across machines: an object that says who is at work and is kept fresh."""

from __future__ import annotations

import json
import os
import signal
import socket
import threading
import time
import uuid
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil

from kdltr_core.remote import NothingThere, ObjectStore
from pipelines.run.command_line import RunStopped

CLAIM = "claim.json"


@dataclass(frozen=True)
class Timing:
    """In seconds: after how many a claim that is not refreshed has expired, how many lie between two refreshes, and
    after how many two who claimed at the same moment can see which of them was last.
    """

    expiry: float = 60.0
    refresh: float = 20.0
    settling: float = 2.0


TIMING = Timing()


@dataclass(frozen=True)
class _Owner:
    """A process that claims the run; ``kernel`` is '' where processes of one machine cannot be told from another's."""

    id: str
    host: str
    pid: int
    kernel: str
    time: str

    @classmethod
    def this(cls) -> _Owner:
        return cls(uuid.uuid4().hex, socket.gethostname(), os.getpid(), _kernel(), time.strftime("%Y-%m-%d %H:%M:%S%z"))

    @property
    def is_dead(self) -> bool:
        """Whether the process was one of this machine and is no more."""
        return bool(self.kernel) and self.kernel == _kernel() and not psutil.pid_exists(self.pid)


@contextmanager
def claim(store: ObjectStore, timing: Timing = TIMING) -> Iterator[None]:
    """Holds the place for one writer, by a small object that a thread refreshes; an owner that dies lets it expire.

    Raises: ValueError if another process holds it; RunStopped if another took it while this one could not refresh it
        (it was suspended, or cut off), for which the main thread is interrupted; as ``ObjectStore`` otherwise.
    """
    this, last = _Owner.this(), _owner(store)
    if last and not last.is_dead and _age(store) < timing.expiry:
        raise ValueError(_refusal(store, last, timing))
    _write(store, this)
    time.sleep(timing.settling)
    last = _owner(store)
    if last and last.id != this.id:
        raise ValueError(_refusal(store, last, timing))
    taken_by: list[_Owner] = []
    stop, main = threading.Event(), threading.main_thread().ident or 0

    def keep_fresh() -> None:
        while not stop.wait(timing.refresh):
            with suppress(OSError, ValueError):  # the next one may succeed
                owner = _owner(store)
                if owner and owner.id != this.id:
                    taken_by.append(owner)
                    signal.pthread_kill(main, signal.SIGINT)
                    return
                _write(store, this)

    thread = threading.Thread(target=keep_fresh, name="refresh-claim", daemon=True)
    thread.start()
    try:
        yield
    except KeyboardInterrupt:
        if taken_by:
            raise RunStopped(
                f"the claim on {store.uri} was not refreshed for {timing.expiry:.0f} s and "
                f"{_named(taken_by[0])} took the run over; wait for that one, or give another --name"
            ) from None
        raise
    finally:
        stop.set()
        thread.join()
        try:
            owner = _owner(store)
            if owner and owner.id == this.id:
                store.delete(CLAIM)
        except (OSError, ValueError) as error:
            warnings.warn(f"{error}; the claim on the run expires in {timing.expiry:.0f} s", stacklevel=3)


def _owner(store: ObjectStore) -> _Owner | None:
    try:
        return _Owner(**json.loads(store.read(CLAIM)))
    except NothingThere:
        return None
    except (json.JSONDecodeError, TypeError):
        return _Owner("", "another version", 0, "", "")


def _write(store: ObjectStore, owner: _Owner) -> None:
    store.put(CLAIM, json.dumps(asdict(owner), indent=1).encode())


def _age(store: ObjectStore) -> float:
    """Seconds since the claim was written, by the store's clock alone: those of two machines may differ."""
    probe = f".clock-{uuid.uuid4().hex}"
    store.put(probe, b"")
    now, then = store.file(probe), store.file(CLAIM)
    store.delete(probe)
    return (now.written - then.written) / 1e9 if now and then else float("inf")


def _refusal(store: ObjectStore, owner: _Owner, timing: Timing) -> str:
    return (
        f"{_named(owner)} is training in {store.uri}; wait for it, or give another --name. If it is dead, its claim "
        f"expires {timing.expiry:.0f} s after its last sign of life"
    )


def _named(owner: _Owner) -> str:
    return f"process {owner.pid} on {owner.host}"


def _kernel() -> str:
    """This boot of this machine, and the set of processes that are seen from here; '' where it cannot be had."""
    try:
        return f"{Path('/proc/sys/kernel/random/boot_id').read_text().strip()} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return ""
