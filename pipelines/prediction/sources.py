"""Which images predict.py reads: files, folders, names on standard input, records of LMDBs."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import BinaryIO

from kdltr_core.data.lmdb_store import IMAGE_PREFIXES, LmdbStore
from kdltr_core.data.picture_folder import is_picture, walk_visible
from kdltr_core.data.roots import lmdb_folders

STANDARD_INPUT = "-"


@dataclass(frozen=True)
class Source:
    """An image.

    Attributes:
        name: by the path that was given.
        content: the absolute path of its file, or what gives its bytes, from an LMDB for instance.
    """

    name: str
    content: str | Callable[[], bytes]

    def load(self) -> str | bytes:
        """Raises: RecordError if a record is missing."""
        return self.content if isinstance(self.content, str) else self.content()


@dataclass(frozen=True)
class Skipped:
    """What was to be read and could not be."""

    image: str
    reason: str


@dataclass
class Sources:
    """Images in the order in which they are read.

    Attributes:
        skipped: folders that cannot be listed.
        num_left_alone: files of folders that are not called like images.
        roots: folders and LMDBs, absolute, that whoever reads has to see.
    """

    images: list[Source] = field(default_factory=list)
    skipped: list[Skipped] = field(default_factory=list)
    num_left_alone: int = 0
    roots: list[str] = field(default_factory=list)


def printable(path: str) -> str:
    """A path as text that any file and terminal takes: bytes that are no UTF-8, and control characters, as escapes."""
    text = os.fsencode(path).decode("utf-8", "backslashreplace")
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def find_sources(
    places: Sequence[str], lmdb_roots: Sequence[str], reads_low_res: bool, standard_input: BinaryIO
) -> Sources:
    """The images of files and folders, then those of LMDBs.

    Args:
        places: files, folders, or "-" for names on standard input.
        lmdb_roots: LMDBs, or folders of them.
        reads_low_res: which image of a pair is meant.

    Raises: ValueError if there is no image, or for an LMDB that cannot be read.
    """
    found = Sources()
    for place in places:
        names = _names(standard_input) if place == STANDARD_INPUT else (os.path.expanduser(place),)
        for name in names:
            _add(name, found)
    for root in lmdb_roots:
        for folder in lmdb_folders(root):
            store = LmdbStore.open(folder.absolute())
            side = int(reads_low_res and store.kind == "paired")
            name = f"{printable(str(folder))}/{IMAGE_PREFIXES[store.kind][side]}"
            found.images += (Source(f"{name}-{i:09d}", partial(store.image, i, side)) for i in range(1, len(store) + 1))
            found.roots.append(str(store.root))
    if not found.images and not found.skipped:
        left = f"; {found.num_left_alone} files there do not have an image's name" if found.num_left_alone else ""
        named = ", ".join("standard input" if place == STANDARD_INPUT else printable(place) for place in places)
        raise ValueError(f"there is no image in {named}{left}. Name the files, or give another folder")
    return found


def _names(lines: BinaryIO) -> Iterator[str]:
    for line in lines:
        if name := line.rstrip(b"\r\n"):
            yield os.fsdecode(name)


def _add(name: str, found: Sources) -> None:
    if not os.path.isdir(name):
        found.images.append(Source(printable(name), os.path.abspath(name)))
        return
    found.roots.append(os.path.abspath(name))
    refused: list[OSError] = []
    for folder, files in walk_visible(name, refused):
        for file in files:
            if is_picture(file):
                path = os.path.join(folder, file)
                found.images.append(Source(printable(path), os.path.abspath(path)))
            else:
                found.num_left_alone += 1
    found.skipped += (Skipped(printable(str(error.filename)), str(error.strerror)) for error in refused)
