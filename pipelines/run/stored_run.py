"""A run folder in an object store, as the driver sees it."""

from __future__ import annotations

import shutil
import tempfile
import time
import warnings
import weakref
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from kdltr_core.config import RunConfig
from kdltr_core.remote import is_uri, under
from pipelines.run.folder import FINISHED_FILE, REFUSAL_FILE, TRACKING_FILE, RunFolder
from pipelines.run.storage import JOURNAL, Mirror

SECONDS_BETWEEN_LOOKS = 5.0


class StoredRun(RunFolder):
    """``output_folder/name`` in an object store; ``path`` is this process's own copy of what a driver needs of it.

    Raises: ValueError as ``RunFolder``; as ``ObjectStore``.
    """

    def __init__(self, config: RunConfig) -> None:
        self._next_look = 0.0
        super().__init__(config)

    def _open(self) -> Path:
        copy = tempfile.mkdtemp(prefix="kdltr-run-")
        weakref.finalize(self, shutil.rmtree, copy, ignore_errors=True)
        self._mirror = Mirror(self.place, Path(copy) / self.config.name)
        self._mirror.pull("config.yaml", FINISHED_FILE, TRACKING_FILE, JOURNAL, "evaluation/*")
        return self._mirror.local

    @property
    def place(self) -> str:
        return under(self.config.output_folder, self.config.name)

    def named(self, name: str) -> str:
        return under(self.place, *name.split("/"))

    @property
    def has_begun(self) -> bool:
        return bool(self._mirror.steps())

    @contextmanager
    def claim(self) -> Iterator[None]:
        with self._mirror.claim():
            self._mirror.remove(*((JOURNAL, TRACKING_FILE) if self._changes() else ()), FINISHED_FILE, REFUSAL_FILE)
            with super().claim():
                self._mirror.push("config.yaml")
                yield

    def look(self) -> None:
        if time.monotonic() >= self._next_look:
            self._next_look = time.monotonic() + SECONDS_BETWEEN_LOOKS
            with suppress(OSError, ValueError):  # the next look may succeed
                self._mirror.pull(JOURNAL)

    def collect(self) -> None:
        self._mirror.pull(JOURNAL, REFUSAL_FILE, "evaluation/*")

    def keep(self, name: str) -> None:
        if (self.path / name).exists():
            try:
                self._mirror.push(name)
            except (OSError, ValueError) as error:
                warnings.warn(f"{error}; {name} is not kept", stacklevel=2)

    def mark_finished(self) -> None:
        super().mark_finished()
        self._mirror.push(FINISHED_FILE)


def open_run(config: RunConfig) -> RunFolder:
    """Of an output folder that is a path or a URI. Raises: as ``RunFolder`` and ``StoredRun``."""
    return StoredRun(config) if is_uri(config.output_folder) else RunFolder(config)
