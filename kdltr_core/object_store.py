"""A place in an object store, named by its URI: what lies there, and bytes in and out of it."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from urllib.parse import urlsplit

import pyarrow as pa
from pyarrow import fs

from kdltr_core.uri import under

# The answer to a request takes its time however short it is: several are kept on their way.
CHUNK_BYTES = 8 * 2**20
NUM_CONNECTIONS = 8
_CHUNKS_AT_A_TIME = NUM_CONNECTIONS * CHUNK_BYTES
# Arrow's own patience with Google's store is a quarter of an hour, for missing credentials too.
_GOOGLE_PATIENCE = "retry_limit_seconds=60"
_NO_BUCKET = re.compile(r"NO_SUCH_BUCKET|Bucket '[^']*' not found|container does not exist", re.IGNORECASE)
_NO_PERMISSION = re.compile(
    r"access.?denied|permission.?denied|invalid.?access.?key|signature.?does.?not|expired.?token|unauthenticated|"
    r"credential|access token|HTTP status 40[13]",
    re.IGNORECASE,
)


class NothingThere(ValueError):
    """A bucket or an object that is not there."""


class StoreUnreachable(OSError):
    """An object store that does not answer, or not as expected; the same request may succeed later."""


@dataclass(frozen=True)
class RemoteFile:
    """What a listing says of an object: bytes, and when it was written (nanoseconds since 1970, the store's clock)."""

    size: int
    written: int


class ObjectStore:
    """An object, or all that lies under a prefix, in a store that ``pyarrow.fs.FileSystem.from_uri`` knows.

    Credentials are found as the store's own tools find them. For a store that speaks S3 and is not Amazon's, set
    AWS_ENDPOINT_URL, or end the URI in ``?endpoint_override=host:9000&scheme=http``; ``?region=…`` saves a request.
    Every method raises NothingThere, ValueError for lack of permission, and StoreUnreachable otherwise. Methods may be
    called by several threads.

    Raises: ValueError for a URI that cannot be read, is of an unknown scheme, or holds a password.
    """

    def __init__(self, uri: str) -> None:
        parts = urlsplit(uri)
        if parts.password is not None:
            raise ValueError(
                f"the URI of {parts.hostname}{parts.path} holds a password, which would be written into config.yaml "
                "and into MLflow; leave it out and set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
            )
        self.uri = uri
        if parts.scheme in ("gs", "gcs") and "retry_limit_seconds" not in parts.query:
            uri = parts._replace(query=f"{parts.query}&{_GOOGLE_PATIENCE}".lstrip("&")).geturl()
        with self._explained():
            self._system, self._path = fs.FileSystem.from_uri(uri)
        self._path = self._path.rstrip("/")
        if not self._path:
            raise ValueError(f"{self.uri} names no bucket; expected something like s3://bucket/folder")

    @property
    def name(self) -> str:
        """The last component of the path."""
        return PurePosixPath(self._path).name

    @property
    def parent_name(self) -> str:
        """The component before it; '' for a bucket."""
        return PurePosixPath(self._path).parent.name

    def files(self) -> dict[str, RemoteFile]:
        """What lies here, by names relative to this place, in order; an object itself has the name ''.

        Where there is nothing, or no bucket, there are no files.
        """
        with self._explained():
            this = self._system.get_file_info(self._path)
            if this.type == fs.FileType.File:
                return {"": RemoteFile(this.size, this.mtime_ns)}
            found = self._system.get_file_info(fs.FileSelector(self._path, recursive=True, allow_not_found=True))
        names = {
            info.path.removeprefix(f"{self._path}/"): RemoteFile(info.size, info.mtime_ns)
            for info in found
            if info.type == fs.FileType.File
        }
        for name in names:
            if ".." in name.split("/") or name.startswith("/"):
                raise ValueError(f"{self.uri} holds an object named {name!r}, which is no path in a folder; rename it")
        return dict(sorted(names.items()))

    def file(self, name: str) -> RemoteFile | None:
        """What is known of one object; None if it is not there."""
        with self._explained():
            info = self._system.get_file_info(self._place(name))
        return RemoteFile(info.size, info.mtime_ns) if info.type == fs.FileType.File else None

    def read(self, name: str) -> bytes:
        """The whole of a small object."""
        with self._explained(name), self._system.open_input_stream(self._place(name)) as stream:
            return stream.readall()

    def download(self, name: str, path: Path, progress: Callable[[int], None] = lambda num_bytes: None) -> str:
        """Write an object into a new file, which the folder is made for. Returns the BLAKE2b hash of its content.

        Args:
            progress: called with the bytes of every chunk.

        Raises: OSError if the file cannot be written; then, as after any other error, a part of it may be left.
        """
        path.parent.mkdir(parents=True, exist_ok=True)
        digest = hashlib.blake2b(digest_size=16)
        with path.open("wb") as file:
            for chunk in self._chunks(name):
                file.write(chunk)
                digest.update(chunk)
                progress(len(chunk))
        return digest.hexdigest()

    def put(self, name: str, content: bytes) -> None:
        """Write an object in one go: readers see what was there before or the whole of it."""
        # In a thread of its own: an exception that a signal raises in here would close the stream, and closing it
        # publishes whatever was written by then.
        with self._explained(name), ThreadPoolExecutor(1) as pool:
            pool.submit(self._put, name, content).result()

    def delete(self, name: str) -> None:
        """Remove an object; one that is not there is no error."""
        with self._explained(name), suppress(FileNotFoundError):
            self._system.delete_file(self._place(name))

    def _put(self, name: str, content: bytes) -> None:
        with self._system.open_output_stream(self._place(name)) as stream:
            stream.write(content)

    def _chunks(self, name: str) -> Iterator[bytes]:
        with self._explained(name):
            source = self._system.open_input_file(self._place(name))
        with source, ThreadPoolExecutor(NUM_CONNECTIONS) as pool:
            size = source.size()
            for start in range(0, size, _CHUNKS_AT_A_TIME):
                offsets = range(start, min(start + _CHUNKS_AT_A_TIME, size), CHUNK_BYTES)
                with self._explained(name):
                    chunks = list(pool.map(lambda offset: source.read_at(CHUNK_BYTES, offset), offsets))
                yield from chunks

    def _place(self, name: str) -> str:
        return f"{self._path}/{name}" if name else self._path

    @contextmanager
    def _explained(self, name: str = "") -> Iterator[None]:
        uri = under(self.uri, name) if name else self.uri
        try:
            yield
        except (pa.ArrowException, OSError) as error:
            said = " ".join(str(error).split()).partition(" (Request ID")[0][:300]
            if isinstance(error, pa.ArrowInvalid):
                raise ValueError(
                    f"{uri} cannot be opened: {said}. Expected a URI such as s3://bucket/folder or gs://bucket/folder, "
                    "or a path without '://'"
                ) from error
            if _NO_BUCKET.search(said):
                raise NothingThere(f"there is no bucket for {uri}; make it, or correct its name") from error
            if isinstance(error, FileNotFoundError):
                raise NothingThere(f"there is no object {uri}; correct its name") from error
            if _NO_PERMISSION.search(said):
                raise ValueError(
                    f"no permission for {uri} ({said}). Give this machine credentials that have it: for s3:// "
                    "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, ~/.aws/credentials or the instance's role; for gs:// "
                    "GOOGLE_APPLICATION_CREDENTIALS or the instance's service account"
                ) from error
            raise StoreUnreachable(
                f"{uri} does not answer ({said}); check the network and, for a store that is not Amazon's, "
                "AWS_ENDPOINT_URL"
            ) from error
