"""Files and folders that are there whole or not at all, locks, and small JSON files read again."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import filelock
from pydantic import TypeAdapter, ValidationError

Shape = TypeVar("Shape")
# Called with (done, total).
Progress = Callable[[int, int], None]

_WAYS_OUT = {
    (errno.ENOSPC, errno.EDQUOT, errno.EFBIG): "free some space there",
    (errno.EACCES, errno.EPERM, errno.EROFS): "make it writable for this user",
    (errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP): "its file system has no locks",
}


class NotWritten(OSError):
    """A checkpoint or a student could not be written; what was there before is untouched."""


class HeldByAnother(OSError):
    """A lock that another process holds."""


class DamagedFile(ValueError):
    """A file of ours that cannot be read again; the message names it, where it is damaged, and the way out."""


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """A new path beside ``path`` to write to: it takes the place of ``path`` when all went well, and else is removed.

    It ends like ``path``, for writers that go by the ending. Where ``path`` is a link, the link stays.

    Raises: OSError if it cannot be written; what was there before is untouched.
    """
    path = Path(os.path.realpath(path))
    writing = path.with_name(f".writing-{os.getpid()}-{path.name}")
    try:
        yield writing
        os.replace(writing, path)
    finally:
        writing.unlink(missing_ok=True)


@contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """A new, empty folder beside ``path``, which takes its place, as in ``whole_file``; only one process may write it.

    What a process that was killed here left behind is removed.
    """
    writing = path.with_name(f".writing-{path.name}")
    shutil.rmtree(writing, ignore_errors=True)
    try:
        writing.mkdir(parents=True)
        yield writing
        shutil.rmtree(path, ignore_errors=True)
        os.replace(writing, path)
    finally:
        shutil.rmtree(writing, ignore_errors=True)


def write_text(path: Path, text: str) -> None:
    """A small file, whole or not at all. Raises: OSError."""
    with whole_file(path) as writing:
        writing.write_text(text, encoding="utf-8")


@contextmanager
def locked(path: Path, seconds: float = -1) -> Iterator[None]:
    """Alone among processes; the lock file stays behind.

    Args:
        seconds: to wait for others; below 0: as long as it takes.

    Raises: HeldByAnother; OSError if the file cannot be made or its file system has no locks.
    """
    lock = filelock.FileLock(path, timeout=seconds)
    try:
        lock.acquire()
    except filelock.Timeout:
        raise HeldByAnother(f"another process holds {path}") from None
    except NotImplementedError as error:
        raise OSError(errno.ENOLCK, str(error), str(path)) from error
    try:
        yield
    finally:
        lock.release()


def read_json(path: Path, shape: type[Shape], way_out: str) -> Shape:
    """What a small JSON file of ours holds; fields that are not known, of a newer version for instance, are ignored.

    Args:
        shape: a dataclass, or a type such as ``dict[str, float]``.
        way_out: what a person can do if it is damaged, such as "delete it and give the same command again".

    Raises: OSError; DamagedFile.
    """
    try:
        return TypeAdapter(shape).validate_json(path.read_bytes())
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise DamagedFile(f"{path} is damaged ({place}{': ' if place else ''}{first['msg']}); {way_out}") from None


def remedy(error: Exception) -> str:
    """What helps where something could not be written; writers that are not Python's mostly ran out of space."""
    number = error.errno if isinstance(error, OSError) else errno.ENOSPC
    return next((way for numbers, way in _WAYS_OUT.items() if number in numbers), "see whether it can be written")
