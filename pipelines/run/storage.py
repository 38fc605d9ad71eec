"""Storage of a run: a folder that all machines share, or a bucket and a copy of it where work is done."""

from __future__ import annotations

import os
import re
import shutil
import socket
import uuid
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from kdltr_core.files import HeldByAnother, locked, whole_file, whole_folder
from kdltr_core.remote import ObjectStore, RemoteFile, is_uri, public, under
from kdltr_core.train.checkpoint import CheckpointStore, read_checkpoint
from pipelines.run.progress import polled

METRICS_FILE = "metrics.jsonl"
CHECKPOINTS = "checkpoints"
# Written last and removed first: a checkpoint without it is one that is not whole.
SEAL = "checkpoint.json"
CLAIMS = "claims"
SECONDS_OF_A_CLAIM = 60.0
SECONDS_BETWEEN_REFRESHES = 15.0
_STEP = re.compile(rf"{CHECKPOINTS}/step-(\d{{8}})/(.+)")


class Storage:
    """Where the files of a run are kept. In a folder they are where they are worked on, and nothing has to be moved.

    What is in a bucket is the run; copies may lag behind it. All methods raise as ``ObjectStore``.

    Args:
        place: a path, or the URI of a bucket's folder.
        copy: the folder to work in if it is a URI.

    Attributes:
        place: as given.
        path: the folder to work in.
    """

    def __init__(self, place: str, copy: Path) -> None:
        self.place = place
        self._store = ObjectStore(place) if is_uri(place) else None
        self.path = copy if self._store else Path(place)
        self._pulled: dict[str, RemoteFile] = {}
        self._unsent: list[Path] = []

    def named(self, name: str) -> str:
        """What the run, or a file of it, is called, for people."""
        return under(public(self.place), *filter(None, name.split("/"))) if self._store else str(self.path / name)

    def push(self, *names: str) -> None:
        """Copy files, and folders with all files in them, to the bucket; a checkpoint's seal after all else of it."""
        if not self._store:
            return
        for name in names:
            here = self.path / name
            files = [path for path in here.rglob("*") if path.is_file()] if here.is_dir() else [here]
            for path in sorted(files, key=lambda path: (path.name == SEAL, path)):
                if path.exists() and not path.name.startswith("."):
                    self._store.upload(path, path.relative_to(self.path).as_posix())

    def try_to_push(self, name: str, otherwise: str) -> None:
        """As ``push``; a failure is a warning that ends in ``otherwise``."""
        try:
            self.push(name)
        except (OSError, ValueError) as error:
            warnings.warn(f"{error}; {otherwise}", stacklevel=2)

    def pull(self, *names: str) -> None:
        """Make files and folders of the copy what they are in the bucket: none where it has none."""
        if not self._store:
            return
        there = self._store.files()
        for name in names:
            wanted = {inner: file for inner, file in there.items() if inner == name or inner.startswith(f"{name}/")}
            for path in [self.path / name, *(self.path / name).rglob("*")]:
                if path.is_file() and path.relative_to(self.path).as_posix() not in wanted:
                    path.unlink()
            for inner, file in wanted.items():
                path = self.path / inner
                if self._pulled.get(inner) != file or not path.exists():
                    path.parent.mkdir(parents=True, exist_ok=True)
                    with whole_file(path) as writing:
                        self._store.download(inner, writing)
                    self._pulled[inner] = file

    def remove(self, *names: str) -> None:
        """Remove files, from the bucket too; one that is not there is no error."""
        for name in names:
            (self.path / name).unlink(missing_ok=True)
            if self._store:
                self._store.delete(name)

    def steps(self) -> list[int]:
        """The steps there is a sealed checkpoint of, ascending."""
        if self._store:
            return sorted(step for step, names in self._checkpoints().items() if SEAL in names)
        return CheckpointStore(self.path / CHECKPOINTS, 1).steps()

    def send(self, folder: Path, best_step: int) -> None:
        """Push the metrics log and a folder that was just written; what cannot be sent now is sent with the next one.

        The metrics log first and checkpoints last: none is in the bucket without what it was written after. There, as
        here, only the last ones and the best are kept.
        """
        self._unsent = [*(other for other in self._unsent if other != folder), folder]
        try:
            self.send_rest()
            if self._store and folder.parent.name == CHECKPOINTS:
                here = CheckpointStore(folder.parent, 1).steps()
                for step, names in self._checkpoints().items():
                    if step not in (*here, best_step):
                        for name in sorted(names, key=lambda name: name != SEAL):
                            self._store.delete(f"{_folder(step)}/{name}")
        except (OSError, ValueError) as error:
            warnings.warn(f"{error}; training continues and this is sent with the next checkpoint", stacklevel=2)

    def send_rest(self) -> None:
        """Push what ``send`` could not."""
        self.push(METRICS_FILE)
        while self._unsent:
            self.push(self._unsent[0].relative_to(self.path).as_posix())
            self._unsent.pop(0)

    def pull_newest_checkpoint(self) -> int | None:
        """Make the newest whole checkpoint of the bucket the only one here, so that all machines go on from the same.

        One that is not whole is passed over with a warning. Processes that share a copy take turns.

        Returns: its step; None if there is none, and for a folder.
        """
        if not self._store:
            return None
        self.path.mkdir(parents=True, exist_ok=True)
        with locked(self.path / ".pulling.lock"):
            found = None
            for step, names in sorted(self._checkpoints().items(), reverse=True):
                place = self.path / _folder(step)
                if SEAL in names:
                    seal = self._store.read(f"{_folder(step)}/{SEAL}")
                    if not (_is_whole(place) and (place / SEAL).read_bytes() == seal):
                        with whole_folder(place) as writing:
                            for name in names:
                                self._store.download(f"{_folder(step)}/{name}", writing / name)
                    if _is_whole(place):
                        found = step
                        break
                warnings.warn(f"{self.named(_folder(step))} is not whole; the one before it is used", stacklevel=2)
            for place in (self.path / CHECKPOINTS).glob("*"):
                if found is None or place != self.path / _folder(found):
                    shutil.rmtree(place, ignore_errors=True)
            return found

    def _checkpoints(self) -> dict[int, list[str]]:
        """The files of every checkpoint in the bucket, whole or not, by their names in its folder."""
        steps: dict[int, list[str]] = {}
        for name in self._store.files() if self._store else ():
            if match := _STEP.fullmatch(name):
                steps.setdefault(int(match[1]), []).append(match[2])
        return steps

    @contextmanager
    def claim(self) -> Iterator[None]:
        """Holds the run for one driver, by a lock or, in a bucket, by an object that is refreshed.

        Raises: ValueError if another holds it.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        way_out = "wait for it, or give another --name"
        if self._store:
            with _claimed(self._store, way_out):
                yield
            return
        try:
            with locked(self.path / ".lock", seconds=0):
                yield
        except HeldByAnother:
            raise ValueError(f"another process is training in {self.path}; {way_out}") from None


@contextmanager
def _claimed(store: ObjectStore, way_out: str) -> Iterator[None]:
    """An object of this driver's own, refreshed while it is held. All times are by the store's clock.

    Of two who claim at the same moment each may see the other, and then neither gets it.
    """
    mine = f"{CLAIMS}/process {os.getpid()} on {socket.gethostname()} ({uuid.uuid4().hex[:8]})"
    store.put(mine, b"")
    try:
        claims = {name: file.written / 1e9 for name, file in store.files().items() if name.startswith(f"{CLAIMS}/")}
        for other in claims.keys() - {mine}:
            seconds_left = SECONDS_OF_A_CLAIM - (claims[mine] - claims[other])
            if seconds_left > 0:
                raise ValueError(
                    f"{other.removeprefix(f'{CLAIMS}/')} is training in {store.uri}; {way_out}. If it is dead, the "
                    f"same command resumes {seconds_left:.0f} s from now"
                )
            store.delete(other)

        def refresh() -> None:
            with suppress(OSError, ValueError):  # the next one may succeed
                store.put(mine, b"")

        with polled(refresh, SECONDS_BETWEEN_REFRESHES):
            yield
    finally:
        with suppress(OSError, ValueError):  # it expires
            store.delete(mine)


def _folder(step: int) -> str:
    return f"{CHECKPOINTS}/step-{step:08d}"


def _is_whole(place: Path) -> bool:
    try:
        read_checkpoint(place)
    except ValueError:
        return False
    return True
