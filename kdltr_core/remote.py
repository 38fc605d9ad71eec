"""Places named by a URI: objects in a store, and their local copies, fetched once per node and whole."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath
from urllib.parse import parse_qsl, quote, unquote, urlsplit

import pyarrow as pa
from pyarrow import fs

from kdltr_core.files import Progress, locked, remedy, whole_folder

LMDB_FILE = "data.mdb"
CHUNK_BYTES = 16 * 2**20
_RECORD = "fetched.json"
# Arrow's own patience with Google's store is a quarter of an hour, for missing credentials too.
_GOOGLE_PATIENCE = "retry_limit_seconds=60"


class StoreUnreachable(OSError):
    """An object store that does not do what was asked: by its name, for want of permission, or for now."""


def is_uri(text: str) -> bool:
    """Whether a data root or a file is named by a URI (``s3://…``, ``gs://…``, ``file:///…``) rather than by a path."""
    return re.match(r"[A-Za-z][A-Za-z0-9+.-]+://", text) is not None


def local_path(uri: str) -> Path | None:
    """The path that a ``file://`` URI names; None for any other URI."""
    parts = urlsplit(uri)
    return Path(unquote(parts.path)) if parts.scheme == "file" and parts.netloc in ("", "localhost") else None


def under(uri: str, *names: str) -> str:
    """The URI of what lies under a place; the query stays behind: ``s3://bucket/runs/first?region=eu-west-1``."""
    parts = urlsplit(uri)
    return parts._replace(path="/".join((parts.path.rstrip("/"), *(quote(name) for name in names)))).geturl()


def public(uri: str) -> str:
    """The URI as it is kept, shown and logged: without user and query, where secrets stand. A path stays as it is."""
    return re.sub(r"(?<=://)([^/?]*|[^:/?]*:[^@]*)@", "", uri).partition("?")[0] if is_uri(uri) else uri


@dataclass(frozen=True)
class RemoteFile:
    """What a listing says of an object: bytes, and when it was written (nanoseconds since 1970, the store's clock)."""

    size: int
    written: int


class ObjectStore:
    """An object, or all that lies under a prefix, in a store that ``pyarrow.fs.FileSystem.from_uri`` knows.

    Credentials are found as the store's own tools find them. For a store that speaks S3 and is not Amazon's, set
    AWS_ENDPOINT_URL, or end the URI in ``?endpoint_override=host:9000&scheme=http``; ``?region=…`` saves a request.
    Every method raises StoreUnreachable, and may be called by several threads.

    Raises: ValueError for a URI that cannot be read, is of an unknown scheme, or holds a password.
    """

    def __init__(self, uri: str) -> None:
        parts = urlsplit(uri)
        secret = [name for name, _ in parse_qsl(parts.query) if re.search("secret|token|key|password|sas", name, re.I)]
        if parts.password is not None or secret:
            raise ValueError(
                f"the URI of {parts.hostname}{parts.path} holds a password, {', '.join(secret) or 'before the @'}, "
                "which would be written into config.yaml and into MLflow; leave it out and set AWS_ACCESS_KEY_ID and "
                "AWS_SECRET_ACCESS_KEY, or what the store's own tools take"
            )
        self.uri = uri
        if parts.scheme in ("gs", "gcs") and "retry_limit_seconds" not in parts.query:
            uri = parts._replace(query=f"{parts.query}&{_GOOGLE_PATIENCE}".lstrip("&")).geturl()
        with self._explained():
            self._system, self._path = fs.FileSystem.from_uri(uri)
        self._path = self._path.rstrip("/")
        if not self._path:
            raise ValueError(f"{self.uri} names no bucket; expected something like s3://bucket/folder")
        self.name, self.parent_name = PurePosixPath(self._path).name, PurePosixPath(self._path).parent.name

    def files(self) -> dict[str, RemoteFile]:
        """What lies here, by names relative to this place, in order; an object itself has the name ''.

        Where there is nothing, or no bucket, there are no files.
        """
        if this := self.file(""):
            return {"": this}
        with self._explained():
            found = self._system.get_file_info(fs.FileSelector(self._path, recursive=True, allow_not_found=True))
        names = {info.path.removeprefix(f"{self._path}/"): info for info in found if info.type == fs.FileType.File}
        for name in names:
            if ".." in name.split("/") or name.startswith("/"):
                raise ValueError(f"{self.uri} holds an object named {name!r}, which is no path in a folder; rename it")
        return {name: RemoteFile(info.size, info.mtime_ns) for name, info in sorted(names.items())}

    def file(self, name: str) -> RemoteFile | None:
        """What is known of one object; None if it is not there."""
        with self._explained(name):
            info = self._system.get_file_info(self._place(name))
        return RemoteFile(info.size, info.mtime_ns) if info.type == fs.FileType.File else None

    def read(self, name: str) -> bytes:
        """The whole of a small object."""
        with self._explained(name), self._system.open_input_stream(self._place(name)) as stream:
            return stream.readall()

    def download(self, name: str, path: Path) -> None:
        """Write an object into a new file, which the folder is made for.

        Raises: OSError if the file cannot be written; then, as after any other error, a part of it may be left.
        """
        path.parent.mkdir(parents=True, exist_ok=True)
        with self._explained(name):
            fs.copy_files(self._place(name), str(path), self._system, fs.LocalFileSystem(), chunk_size=CHUNK_BYTES)

    def upload(self, path: Path, name: str) -> None:
        """Write a file into an object: readers see what was there before or the whole of it."""
        with self._explained(name):
            fs.copy_files(str(path), self._place(name), fs.LocalFileSystem(), self._system, chunk_size=CHUNK_BYTES)

    def put(self, name: str, content: bytes) -> None:
        """Write a small object."""
        with self._explained(name), self._system.open_output_stream(self._place(name)) as stream:
            stream.write(content)

    def delete(self, name: str) -> None:
        """Remove an object; one that is not there is no error."""
        with self._explained(name), suppress(FileNotFoundError):
            self._system.delete_file(self._place(name))

    def _place(self, name: str) -> str:
        return f"{self._path}/{name}" if name else self._path

    @contextmanager
    def _explained(self, name: str = "") -> Iterator[None]:
        uri = under(self.uri, name) if name else self.uri
        try:
            yield
        except (pa.ArrowException, OSError) as error:
            if isinstance(error, OSError) and error.errno and not isinstance(error, FileNotFoundError):
                raise  # of this machine
            said = " ".join(str(error).split()).partition(" (Request ID")[0][:300]
            if isinstance(error, pa.ArrowInvalid):
                raise ValueError(
                    f"{uri} cannot be opened: {said}. Expected a URI such as s3://bucket/folder or gs://bucket/folder, "
                    "or a path without '://'"
                ) from error
            raise StoreUnreachable(
                f"{uri} cannot be read or written ({said}). See that its bucket and name are right, that the network "
                "is up, and that this machine's credentials allow it: AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, "
                "~/.aws/credentials or the instance's role, and AWS_ENDPOINT_URL for a store that is not Amazon's; for "
                "gs:// GOOGLE_APPLICATION_CREDENTIALS or the instance's service account"
            ) from error


def fetch(place: str, cache_folder: str | Path, progress: Progress | None = None, *, only: str = "*") -> Path:
    """The local copy of an object, or of a folder and all under it; it has the last component of the URI as its name.

    A copy is used again if its files have their sizes, and the store still lists the same sizes and times. Processes
    that ask at the same time wait for the first of them. Paths and ``file://`` URIs stand for themselves and are not
    looked at.

    Args:
        place: a URI that ``ObjectStore`` takes, or a path.
        cache_folder: copies are kept in ``fetched/`` under it; made if it is not there.
        progress: called with (bytes done, bytes in all) after each file.
        only: pattern of the names of files to fetch from a folder.

    Raises: ValueError for a URI that is not understood or has nothing to fetch; StoreUnreachable; OSError if the copy
        cannot be kept.
    """
    path = local_path(place) if is_uri(place) else Path(place).expanduser()
    if path is not None:
        return path
    store = ObjectStore(place)
    listing = _listing(store, only)
    key = hashlib.blake2b(json.dumps([place, only]).encode(), digest_size=8).hexdigest()
    home = Path(cache_folder).expanduser() / "fetched"
    # The parent's name too: where two sets have one name, theirs tells them apart.
    inner = Path(store.parent_name) / store.name
    size = sum(file.size for file in listing.values())
    record = json.dumps({"uri": store.uri, "files": {name: asdict(file) for name, file in listing.items()}}, indent=1)
    try:
        home.mkdir(parents=True, exist_ok=True)
        with locked(home / f"{key}.lock"):
            if not _is_whole(home / key, inner, record, listing):
                with whole_folder(home / key) as writing:
                    done = 0
                    for name, file in listing.items():
                        store.download(name, writing / inner / name)
                        done += file.size
                        if progress is not None:
                            progress(done, size)
                    # An object that was replaced meanwhile may have come in chunks of both.
                    if _listing(store, only) != listing:
                        raise StoreUnreachable(
                            f"{place} was changed while it was fetched; start again when it is at rest"
                        )
                    (writing / _RECORD).write_text(record)
    except StoreUnreachable:
        raise
    except OSError as error:
        raise OSError(
            f"the copy of {place} cannot be kept in {home}: {error}; {remedy(error)} (it takes {size / 1e6:.1f} MB), "
            "or set data.cache_folder to another folder"
        ) from error
    return home / key / inner


def check_there(uri: str, *, only: str = "*") -> None:
    """Raises: as ``fetch``, if there is nothing to fetch. Nothing is fetched."""
    if local_path(uri) is None:
        _listing(ObjectStore(uri), only)


def _listing(store: ObjectStore, only: str) -> dict[str, RemoteFile]:
    """Raises: ValueError if there is nothing to fetch."""
    files = store.files()
    wanted = {name: file for name, file in files.items() if name == "" or fnmatchcase(name.rpartition("/")[2], only)}
    if not wanted:
        of_lmdbs = ", or make an LMDB of your own images: python pipelines/prepare_data.py convert"
        raise ValueError(
            f"there is nothing to fetch at {store.uri}: {len(files)} files are there, none of them {only}; correct "
            f"the bucket or the path{of_lmdbs if only == LMDB_FILE else ''}"
        )
    return wanted


def _is_whole(place: Path, inner: Path, record: str, listing: Mapping[str, RemoteFile]) -> bool:
    try:
        sizes = [(place / inner / name).stat().st_size for name in listing]
        return (place / _RECORD).read_text() == record and sizes == [file.size for file in listing.values()]
    except OSError:
        return False
