"""A run folder in an object store: the work is done in a local folder, and what is finished there is copied whole."""

from __future__ import annotations

import os
import re
import shutil
import time
import uuid
import warnings
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from fnmatch import fnmatchcase
from pathlib import Path

from kdltr_core.files import locked, whole_file
from kdltr_core.remote import NUM_CONNECTIONS, ObjectStore, RemoteFile, StoreUnreachable
from kdltr_core.train.checkpoint import read_checkpoint
from pipelines.run.lease import claim

JOURNAL = "metrics.jsonl"
SECONDS_BETWEEN_JOURNALS = 10.0
CHECKPOINTS = "checkpoints"
# Written last and removed first: a checkpoint without it is one that is not whole.
SEAL = "checkpoint.json"
_STEP = re.compile(rf"{CHECKPOINTS}/step-(\d{{8}})/(.+)")


class Mirror:
    """The run folder at ``uri``, and this process's copy of it at ``local``.

    What is in the store is the run; the copy may lag behind it, and processes with different tasks (the driver, the
    workers of a node) have a copy each. Files whose names begin with a dot stay local. Every method raises as
    ``ObjectStore`` does.

    Raises: ValueError for a URI that cannot be read.
    """

    def __init__(self, uri: str, local: Path) -> None:
        self.store = ObjectStore(uri)
        self.local = local
        self._pulled: dict[str, RemoteFile] = {}
        self._next_journal = 0.0

    def check_reachable(self) -> None:
        """Write, read and delete a small object. Raises: ValueError or StoreUnreachable, with what to do."""
        name, content = f".reachable-{uuid.uuid4().hex}", os.urandom(16)
        self.store.put(name, content)
        if self.store.read(name) != content:
            raise StoreUnreachable(f"{self.store.uri} does not give back what was written; name another output_folder")
        self.store.delete(name)

    def claim(self) -> AbstractContextManager[None]:
        """Holds the run for this process, as ``lease.claim``."""
        return claim(self.store)

    def push(self, path: str | Path) -> None:
        """Copy a file, or all files of a folder, into the store; a checkpoint's seal after all else of it.

        Args:
            path: under ``local``, or relative to it.
        """
        path = self.local / path
        files = [file for file in path.rglob("*") if file.is_file()] if path.is_dir() else [path]
        names = [file.relative_to(self.local).as_posix() for file in sorted(files)]
        names = [name for name in names if not any(part.startswith(".") for part in name.split("/"))]
        self._put_all([name for name in names if not _is_seal(name)])
        self._put_all([name for name in names if _is_seal(name)])

    def push_checkpoints(self, best_step: int) -> None:
        """Copy the checkpoints that the store has not, then remove there what is neither here nor the best.

        Nothing is removed where there is no checkpoint here.
        """
        there, here = self._steps_there(), self._steps_here()
        for step in here:
            seal = f"{_folder(step)}/{SEAL}"
            sealed = SEAL in there.get(step, [])
            if not sealed or self.store.read(seal) != (self.local / seal).read_bytes():
                self.push(_folder(step))
        for step, names in there.items():
            if here and step not in here and step != best_step:
                for name in sorted(names, key=lambda name: name != SEAL):
                    self.store.delete(f"{_folder(step)}/{name}")

    def steps(self) -> list[int]:
        """The steps the store has a sealed checkpoint of, ascending."""
        return sorted(step for step, names in self._steps_there().items() if SEAL in names)

    def push_journal(self, *, now: bool = False) -> None:
        """Copy metrics.jsonl, every so many seconds; a failure is a warning and the next one tries again.

        Args:
            now: at once, and a failure is raised: before a checkpoint, so that the store's metrics log is never behind
                its checkpoints, and at the end.
        """
        if not now and time.monotonic() < self._next_journal:
            return
        self._next_journal = time.monotonic() + SECONDS_BETWEEN_JOURNALS
        try:
            self.push(JOURNAL)
        except (StoreUnreachable, ValueError) as error:
            if now:
                raise
            warnings.warn(f"{error}; the metrics log is sent again in {SECONDS_BETWEEN_JOURNALS:.0f} s", stacklevel=2)

    def pull(self, *patterns: str) -> list[str]:
        """Bring files here that are new or were changed in the store since this object last did so.

        Each is replaced whole, whatever was here.

        Args:
            patterns: of names relative to the run folder, such as "config.yaml" and "student/*".

        Returns: the names of those that came.
        """
        files = self.store.files()
        wanted = [name for name in files if any(fnmatchcase(name, pattern) for pattern in patterns)]
        fresh = [n for n in wanted if self._pulled.get(n) != files[n] or not (self.local / n).exists()]
        for name in fresh:
            path = self.local / name
            with whole_file(path) as writing:
                self.store.download(name, writing)
            self._pulled[name] = files[name]
        return fresh

    def pull_newest_checkpoint(self) -> int | None:
        """Make the newest whole checkpoint of the store the only one here, so that all nodes go on from the same.

        One that is not whole is passed over with a warning. Processes of one node that share ``local`` take turns, and
        the first of them fetches.

        Returns: its step; None if there is none in the store, and then there is none here either.
        """
        self.local.mkdir(parents=True, exist_ok=True)
        with locked(self.local / ".pulling.lock"):
            found = None
            for step, names in sorted(self._steps_there().items(), reverse=True):
                if self._pull_checkpoint(step, names):
                    found = step
                    break
                warnings.warn(
                    f"the checkpoint {_folder(step)} in {self.store.uri} is not whole; the one before it is used",
                    stacklevel=2,
                )
            for place in (self.local / CHECKPOINTS).glob("*"):
                if found is None or place != self.local / _folder(found):
                    shutil.rmtree(place, ignore_errors=True)
            return found

    def remove(self, *names: str) -> None:
        """Remove files in the store; those that are not there are no error."""
        for name in names:
            self.store.delete(name)

    def _pull_checkpoint(self, step: int, names: list[str]) -> bool:
        """Whether the checkpoint is whole, and then it is here."""
        if SEAL not in names:
            return False
        place, writing = self.local / _folder(step), self.local / CHECKPOINTS / f".writing-{step:08d}"
        seal = self.store.read(f"{_folder(step)}/{SEAL}")
        if (place / SEAL).is_file() and (place / SEAL).read_bytes() == seal and _is_legible(place):
            return True
        shutil.rmtree(writing, ignore_errors=True)
        for name in names:
            self.store.download(f"{_folder(step)}/{name}", writing / name)
        shutil.rmtree(place, ignore_errors=True)
        os.replace(writing, place)
        return _is_legible(place)

    def _put_all(self, names: list[str]) -> None:
        with ThreadPoolExecutor(NUM_CONNECTIONS) as pool:
            list(pool.map(lambda name: self.store.put(name, (self.local / name).read_bytes()), names))

    def _steps_there(self) -> dict[int, list[str]]:
        """The files of every checkpoint in the store, whole or not, by their names in its folder."""
        steps: dict[int, list[str]] = {}
        for name in self.store.files():
            if match := _STEP.fullmatch(name):
                steps.setdefault(int(match[1]), []).append(match[2])
        return steps

    def _steps_here(self) -> list[int]:
        seals = (self.local / CHECKPOINTS).glob(f"step-*/{SEAL}")
        return sorted(int(seal.parent.name.removeprefix("step-")) for seal in seals)


def _folder(step: int) -> str:
    return f"{CHECKPOINTS}/step-{step:08d}"


def _is_seal(name: str) -> bool:
    return name.startswith(f"{CHECKPOINTS}/") and name.endswith(f"/{SEAL}")


def _is_legible(place: Path) -> bool:
    try:
        read_checkpoint(place)
    except ValueError:
        return False
    return True
