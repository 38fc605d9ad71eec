"""Reading word images and labels from LMDB, in the two layouts that the field uses."""

from __future__ import annotations

import hashlib
import os
import threading
import weakref
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import lmdb

from kdltr_core.data.rejected import RecordError
from kdltr_core.files import Progress, whole_folder

Kind = Literal["paired", "single"]

NUM_SAMPLES_KEY = b"num-samples"
_RECORDS_IN_A_FINGERPRINT = 256
_SAMPLES_A_TRANSACTION = 256
_MOST_BYTES = 1 << 38  # of address space: a file is as large as what is in it
_OWN_IMAGES = "If these are your own images, run: python pipelines/prepare_data.py convert"
IMAGE_PREFIXES: dict[Kind, tuple[str, ...]] = {"paired": ("image_hr", "image_lr"), "single": ("image",)}


_OPEN: weakref.WeakValueDictionary[tuple[str, int], Any] = weakref.WeakValueDictionary()
_OPENING = threading.Lock()


def _environment(root: Path) -> Any:
    """LMDB opens a folder once in a process: the stores of one share its environment, which closes with the last."""
    path = os.path.realpath(root)
    with _OPENING:
        # The inode too: a set that was written anew in the same folder is another set.
        key = path, os.stat(Path(path) / "data.mdb").st_ino
        environment = _OPEN.get(key)
        if environment is None:
            environment = lmdb.open(path, readonly=True, create=False, lock=False, readahead=False, meminit=False)
            _OPEN[key] = environment
    return environment


class LmdbStore:
    """An LMDB of word images with 1-based keys.

    ``paired`` (TextZoom): ``image_hr-%09d``, ``image_lr-%09d``, ``label-%09d``; ``single``: ``image-%09d``,
    ``label-%09d``; both with ``num-samples``. A store may be pickled and sent to a spawned process.
    """

    def __init__(self, root: Path, kind: Kind, num_samples: int) -> None:
        self.root, self.kind, self._num_samples = root, kind, num_samples
        self._environment = _environment(root)

    @classmethod
    def open(cls, root: str | Path) -> LmdbStore:
        """Raises: ValueError if there is no LMDB, its layout is unknown, or it has no samples."""
        root = Path(root).expanduser()
        if not root.is_dir():
            raise ValueError(f"there is no folder {root}; correct the path to the LMDB")
        if not (root / "data.mdb").is_file():
            raise ValueError(f"{root} is not an LMDB: there is no data.mdb in it. {_OWN_IMAGES} {root}")
        try:
            environment = _environment(root)
            _check_whole(root, environment)
            with environment.begin() as records:
                counted = records.get(NUM_SAMPLES_KEY)
                kind = next((k for k, prefixes in IMAGE_PREFIXES.items() if _any_key(records, f"{prefixes[0]}-")), None)
                keys = islice(records.cursor().iternext(keys=True, values=False), 3)
                found = [key.decode("utf-8", "replace") for key in keys]
        except lmdb.Error as error:
            raise ValueError(f"{root} cannot be read as an LMDB: {error}") from error
        if kind is None:
            raise ValueError(
                f"{root} is not an LMDB in a known layout: found {', '.join(map(repr, found)) or 'no record'}, … ; "
                f"expected 'image-%09d' or 'image_hr-%09d'. {_OWN_IMAGES} {root}"
            )
        if counted is None or not counted.strip().isdigit() or int(counted) < 1:
            raise ValueError(
                f"{root}: its record 'num-samples' is {counted and counted[:40]!r}, expected a number above 0; correct "
                "it, or make the set again"
            )
        return cls(root, kind, int(counted))

    def __len__(self) -> int:
        return self._num_samples

    def __reduce__(self) -> tuple[Any, ...]:
        return LmdbStore, (self.root, self.kind, self._num_samples)

    def num_unread(self) -> int:
        """How many images have a number outside 1 to len, going by the lowest and the highest."""
        prefix = f"{IMAGE_PREFIXES[self.kind][0]}-".encode()
        with self._environment.begin() as records:
            cursor = records.cursor()
            cursor.set_range(prefix)
            lowest = cursor.key()
            # The first key behind all of this prefix, and then one back.
            found = cursor.prev() if cursor.set_range(prefix[:-1] + b".") else cursor.last()
            highest = cursor.key().removeprefix(prefix) if found else b""
        beyond = max(0, int(highest) - self._num_samples) if highest.isdigit() else 0
        return beyond + (lowest == prefix + b"000000000")

    def fingerprint(self) -> str:
        """Hash by which the set is known again, also of a copy, without reading it to its end.

        Of the pages in use, the last transaction, the number of samples, every label, and the images of a few hundred
        samples spread over the set: writing into it, and making it anew with other words, gives another.
        """
        info, counts = self._environment.info(), self._environment.stat()
        known = [info["last_pgno"], info["last_txnid"], counts["psize"], counts["entries"], self._num_samples]
        digest = hashlib.blake2b(repr([self.kind, *known]).encode(), digest_size=16)
        with self._environment.begin(buffers=True) as records:
            cursor = records.cursor()
            cursor.set_range(b"label-")
            for key, value in cursor.iternext():
                if bytes(key[:6]) != b"label-":
                    break
                digest.update(key)
                digest.update(value)
            for i in spread(self._num_samples):
                for prefix in IMAGE_PREFIXES[self.kind]:
                    digest.update(records.get(f"{prefix}-{i:09d}".encode(), b""))
        return digest.hexdigest()

    def label(self, i: int) -> str:
        """The text of sample ``i``, 1 ≤ i ≤ len. Raises: RecordError if it is missing or not UTF-8."""
        value = self._get("label", i)
        try:
            return value.decode("utf-8")
        except UnicodeDecodeError:
            raise RecordError("corrupt label", f"label-{i:09d}", repr(value[:40])) from None

    def image(self, i: int, side: int = 0) -> bytes:
        """The encoded image of sample ``i``; of a pair, side 0 is high_res and 1 low_res.

        Raises: RecordError if it is missing.
        """
        return self._get(IMAGE_PREFIXES[self.kind][side], i)

    def images(self, i: int) -> list[bytes]:
        """The image of sample ``i``, or both of a pair. Raises: as ``image``."""
        return [self.image(i, side) for side in range(len(IMAGE_PREFIXES[self.kind]))]

    def image_key(self, i: int) -> str:
        """The key of the image (of a pair: the high-resolution one), by which a sample is named in reports."""
        return f"{IMAGE_PREFIXES[self.kind][0]}-{i:09d}"

    def _get(self, prefix: str, i: int) -> bytes:
        key = f"{prefix}-{i:09d}"
        try:
            with self._environment.begin() as records:
                value = records.get(key.encode())
        except lmdb.Error as error:
            raise ValueError(f"{self.root} cannot be read at {key}: {error}") from error
        if value is None:
            raise RecordError("missing label" if prefix == "label" else "missing image", key)
        return value


def write_lmdb(
    root: Path,
    samples: Iterable[tuple[tuple[bytes, ...], str]],
    num_samples: int,
    progress: Progress | None = None,
) -> None:
    """Write samples, ((image,) or (high_res, low_res), label), with 1-based keys, whole or not at all.

    Args:
        root: the LMDB's folder, which must not exist yet, or be empty.
        num_samples: how many there are.
        progress: called with (samples done, samples in all) now and then, and at the end.

    Raises: ValueError if the folder is taken; OSError if it cannot be written.
    """
    if root.exists() and (not root.is_dir() or any(root.iterdir())):
        raise ValueError(f"{root} is there already and is not overwritten; name another folder or remove it first")
    numbered = enumerate(samples, start=1)
    try:
        with (
            whole_folder(root) as writing,
            lmdb.open(str(writing), map_size=_MOST_BYTES, lock=False, sync=False) as environment,
        ):
            while part := list(islice(numbered, _SAMPLES_A_TRANSACTION)):
                with environment.begin(write=True) as records:
                    for number, (images, label) in part:
                        prefixes = IMAGE_PREFIXES["paired" if len(images) == 2 else "single"]
                        for prefix, value in zip((*prefixes, "label"), (*images, label.encode()), strict=True):
                            records.put(f"{prefix}-{number:09d}".encode(), value)
                    records.put(NUM_SAMPLES_KEY, str(number).encode())
                if progress is not None:
                    progress(number, num_samples)
            environment.sync(True)
    except lmdb.Error as error:
        raise OSError(f"{root} cannot be written: {error}; nothing was left there") from error


def spread(num_samples: int) -> Iterator[int]:
    """Numbers of a few hundred samples from the first to the last, by which a set is known again."""
    count = min(num_samples, _RECORDS_IN_A_FINGERPRINT)
    return (1 + place * (num_samples - 1) // max(1, count - 1) for place in range(count))


def _check_whole(root: Path, environment: Any) -> None:
    """A file that ends before its last page would not raise when it is read: it would kill the process."""
    needed = (environment.info()["last_pgno"] + 1) * environment.stat()["psize"]
    size = (root / "data.mdb").stat().st_size
    if size < needed:
        raise ValueError(f"{root} is cut short: data.mdb has {size} of {needed} bytes; copy it again")


def _any_key(records: Any, prefix: str) -> bool:
    cursor = records.cursor()
    return bool(cursor.set_range(prefix.encode())) and cursor.key().startswith(prefix.encode())
