"""A plain folder of word pictures without labels, read as an LMDB of single images is."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

from kdltr_core.data.lmdb_store import Kind, spread
from kdltr_core.data.rejected import RecordError

# By which files of a folder are taken for images.
SUFFIXES = frozenset(
    ".bmp .dib .gif .jfif .jpe .jpeg .jpg .pbm .pgm .png .pnm .ppm .tif .tiff .webp".split()  # noqa: SIM905
)


class PictureFolder:
    """The image files under a folder, in the order of their names; numbers count from 1, keys are relative paths."""

    kind: Kind = "single"

    def __init__(self, root: Path) -> None:
        """Raises: ValueError if there is no folder, or no file in it that is called like an image."""
        if not root.is_dir():
            raise ValueError(f"there is no folder {root}; correct data.unlabelled_roots")
        self.root = root
        self._names = [
            os.path.relpath(os.path.join(folder, file), root)
            for folder, files in walk_visible(root)
            for file in files
            if is_picture(file)
        ]
        if not self._names:
            raise ValueError(
                f"{root} holds no picture: neither an LMDB (data.mdb) nor a file that ends in one of "
                f"{' '.join(sorted(SUFFIXES))}; correct data.unlabelled_roots"
            )

    def __len__(self) -> int:
        return len(self._names)

    def num_unread(self) -> int:
        return 0

    def fingerprint(self) -> str:
        """Of all names and sizes, and of the content of a few hundred files spread over the folder."""
        digest = hashlib.blake2b(digest_size=16)
        for name in self._names:
            digest.update(f"{name} {(self.root / name).lstat().st_size}\n".encode(errors="surrogateescape"))
        for i in spread(len(self)):
            with suppress(RecordError):  # it is rejected when it is packed
                digest.update(self.images(i)[0])
        return digest.hexdigest()

    def label(self, i: int) -> str:
        return ""

    def images(self, i: int) -> list[bytes]:
        """The bytes of file ``i``. Raises: RecordError if it cannot be read."""
        try:
            return [(self.root / self._names[i - 1]).read_bytes()]
        except OSError as error:
            raise RecordError("missing image", self.image_key(i), error.strerror or str(error)) from error

    def image_key(self, i: int) -> str:
        return os.fsencode(self._names[i - 1]).decode("utf-8", "backslashreplace")


def is_picture(file: str) -> bool:
    """Whether it is called like an image."""
    return os.path.splitext(file)[1].lower() in SUFFIXES


def walk_visible(root: str | Path, refused: list[OSError] | None = None) -> Iterator[tuple[str, list[str]]]:
    """Folders and their files, in the order of their names, without what is hidden.

    Args:
        refused: is given the errors of folders that cannot be listed.
    """
    for folder, folders, files in os.walk(root, onerror=None if refused is None else refused.append):
        # In place, so that the walk goes on in this order and not into hidden folders.
        folders[:] = sorted(_visible(folders))
        yield folder, sorted(_visible(files))


def _visible(names: Iterable[str]) -> Iterator[str]:
    return (name for name in names if not name.startswith("."))
