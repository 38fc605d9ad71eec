"""Data roots and weights that are named by a URI: fetched once per node, whole, and checked whenever they are used."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Mapping
from fnmatch import fnmatchcase
from pathlib import Path

import filelock

from kdltr_core.object_store import ObjectStore, RemoteFile, StoreUnreachable
from kdltr_core.uri import is_uri, local_path

Progress = Callable[[int, int], None]

LMDB_FILE = "data.mdb"
_RECORD = "fetched.json"


def fetch(place: str, cache_folder: str | Path, progress: Progress | None = None, *, only: str = "*") -> Path:
    """The local copy of an object, or of a folder and all under it; it has the last component of the URI as its name.

    A copy is used again if it is whole by the hashes that were taken when it was fetched, and the store still lists
    the same sizes and times. Processes that ask at the same time wait for the first of them. Paths and ``file://`` URIs
    stand for themselves and are not looked at.

    Args:
        place: a URI that ``ObjectStore`` takes, or a path.
        cache_folder: copies are kept in ``fetched/`` under it; made if it is not there.
        progress: called with (bytes done, bytes in all) while it is fetched.
        only: pattern of the names of files to fetch from a folder.

    Raises: ValueError for a URI that is not understood or has nothing to fetch, and for lack of permission;
        StoreUnreachable; OSError if the copy cannot be kept.
    """
    path = local_path(place) if is_uri(place) else Path(place).expanduser()
    if path is not None:
        return path
    store = ObjectStore(place)
    listing = _listing(store, only)
    key = hashlib.blake2b(json.dumps([place, only]).encode(), digest_size=8).hexdigest()
    home = Path(cache_folder).expanduser() / "fetched"
    copy = home / key
    # The parent's name too: where two sets have one name, theirs tells them apart.
    inner = Path(store.parent_name) / store.name
    # Outside the lock first: the workers of a node check their copy side by side.
    if _is_whole(copy, inner, listing):
        return copy / inner
    try:
        home.mkdir(parents=True, exist_ok=True)
        with filelock.FileLock(home / f"{key}.lock"):
            if not _is_whole(copy, inner, listing):
                _fetch(store, listing, only, copy, inner, progress)
    except StoreUnreachable:
        raise
    except OSError as error:
        size = sum(file.size for file in listing.values())
        raise OSError(
            f"the copy of {place} cannot be kept in {home}: {error}. Make room there (it takes {size / 1e6:.1f} MB), "
            "or set data.cache_folder to another folder."
        ) from error
    return copy / inner


def check_there(uri: str, *, only: str = "*") -> None:
    """Raises: as ``fetch``, if there is nothing to fetch. Nothing is fetched."""
    if local_path(uri) is None:
        _listing(ObjectStore(uri), only)


def _listing(store: ObjectStore, only: str) -> dict[str, RemoteFile]:
    """Raises: ValueError if there is nothing to fetch."""
    files = store.files()
    wanted = {name: file for name, file in files.items() if name == "" or fnmatchcase(name.rpartition("/")[2], only)}
    if not files:
        raise ValueError(f"there is nothing at {store.uri}; correct the bucket or the path, or copy the files there")
    if not wanted:
        raise ValueError(
            f"{store.uri} is not an LMDB or a folder of LMDBs: there is no {only} among its {len(files)} files. If "
            "these are your own images, make one with: python pipelines/prepare_data.py convert"
        )
    return wanted


def _is_whole(place: Path, inner: Path, listing: Mapping[str, RemoteFile]) -> bool:
    try:
        recorded = json.loads((place / _RECORD).read_text())["files"]
        if {name: RemoteFile(note["size"], note["written"]) for name, note in recorded.items()} != listing:
            return False
        return all(_hash(place / inner / name) == note["blake2b"] for name, note in recorded.items())
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _fetch(
    store: ObjectStore,
    listing: Mapping[str, RemoteFile],
    only: str,
    place: Path,
    inner: Path,
    progress: Progress | None,
) -> None:
    scratch = place.with_name(f".{place.name}.fetching")
    shutil.rmtree(scratch, ignore_errors=True)  # of a process that was killed here
    done, total = 0, sum(file.size for file in listing.values())

    def count(num_bytes: int) -> None:
        nonlocal done
        done += num_bytes
        if progress is not None:
            progress(done, total)

    try:
        notes = {}
        for name, file in listing.items():
            path = scratch / inner / name
            content_hash = store.download(name, path, count)
            notes[name] = {"size": file.size, "written": file.written, "blake2b": content_hash}
            if path.stat().st_size != file.size:
                raise StoreUnreachable(f"{store.uri} gave {path.stat().st_size} of {file.size} bytes of {path.name}")
        # An object that was replaced meanwhile may have come in chunks of both.
        if _listing(store, only) != listing:
            raise StoreUnreachable(f"{store.uri} was changed while it was fetched; start again when it is at rest")
        (scratch / _RECORD).write_text(json.dumps({"uri": store.uri, "files": notes}, indent=1))
        shutil.rmtree(place, ignore_errors=True)
        os.replace(scratch, place)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _hash(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).hexdigest()
