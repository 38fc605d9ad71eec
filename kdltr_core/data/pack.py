"""Pixels of a whole set in one memory-mapped file, made of its LMDB once: batches are gathered without decoding."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
import warnings
import zlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO, Protocol

import numpy as np
import pyarrow as pa
import torch
from PIL import Image
from pydantic import TypeAdapter
from torch import Tensor

from kdltr_core.config import HIGH_RES_SIZE, LOW_RES_SIZE, DegradationName
from kdltr_core.data.degrade import DEGRADATION_VERSION, make_low_res
from kdltr_core.data.images import decode_image, decode_word, resize
from kdltr_core.data.lmdb_store import Kind, LmdbStore
from kdltr_core.data.picture_folder import PictureFolder
from kdltr_core.data.rejected import RecordError, RejectionReport
from kdltr_core.files import locked, remedy
from kdltr_core.remote import LMDB_FILE

Progress = Callable[[int, int], None]
Store = LmdbStore | PictureFolder

FORMAT_VERSION = 3
HIGH_RES_SHAPE = (3, *HIGH_RES_SIZE)
LOW_RES_SHAPE = (3, *LOW_RES_SIZE)


class UnusablePack(ValueError):
    """A file that is no whole pack of this version; ``reason`` says in which way, after the file's name."""

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(f"{path} {reason}; delete it and it is built again")
        self.reason = reason


class DamagedPack(OSError):
    """Pixels in a pack are not those that were packed."""


class Pairs(Protocol):
    """What a reader of pairs needs: a pack is one, a subset of joined packs another."""

    @property
    def name(self) -> str: ...
    @property
    def labels(self) -> list[str]: ...
    def __len__(self) -> int: ...
    def gather(self, indices: np.ndarray) -> tuple[Tensor, Tensor]: ...


class Pack:
    """One set, ready to be gathered from: an Arrow IPC file of one record batch.

    All but the pixels is checked when the file is opened; the pixels of a row when they are first gathered, so that a
    large set need not be read beforehand.

    Attributes:
        path: the file.
        name: the folder name of the LMDB it was made from.
        kind: "paired" or "single", as the LMDB was.
        labels: one string per pair, as the LMDB has them.
        keys: the LMDB key of each pair's (high-resolution) image.
        image_hashes: (N,) uint64, of that image's encoded bytes.
        degradation: what low_res in this file went through after its resize.
        fingerprint: of the LMDB's content and of everything that decides what is in this file.
        report: the samples that are not in it, and why.
    """

    def __init__(self, path: Path, metadata: dict[str, str], batch: pa.RecordBatch) -> None:
        self.path = path
        self.name = metadata["name"]
        self.kind: Kind = "paired" if metadata["kind"] == "paired" else "single"
        self.degradation: DegradationName = TypeAdapter(DegradationName).validate_python(metadata["degradation"])
        self.fingerprint = metadata["fingerprint"]
        self.report = RejectionReport.from_json(metadata["report"])
        self.labels: list[str] = batch.column("label").to_pylist()
        self.keys: list[str] = batch.column("key").to_pylist()
        self.image_hashes: np.ndarray = batch.column("image_hash").to_numpy()
        self._checksums: np.ndarray = batch.column("checksum").to_numpy()
        self._checked = np.zeros(len(self.labels), bool)
        if checksum(metadata, self.labels, self.keys, self.image_hashes, self._checksums) != metadata["checksum"]:
            raise ValueError("its checksum differs")
        self._high_res = _pixels(batch.column("high_res"), HIGH_RES_SHAPE)
        self._low_res = _pixels(batch.column("low_res"), LOW_RES_SHAPE)

    @classmethod
    def open(cls, path: str | Path) -> Pack:
        """Map a pack into memory; nothing is read but its labels, keys and hashes.

        Raises: UnusablePack if it is not a pack, is cut short or damaged, or is of another format version.
        """
        path = Path(path)
        try:
            reader = pa.ipc.open_file(pa.memory_map(str(path)))
            metadata = {k.decode(): v.decode() for k, v in (reader.schema.metadata or {}).items()}
            version = metadata.get("format_version")
            if version == str(FORMAT_VERSION):
                if reader.num_record_batches != 1:
                    raise ValueError(f"{reader.num_record_batches} record batches, expected 1")
                batch = reader.get_batch(0)
                batch.validate(full=True)
                return cls(path, metadata, batch)
        except FileNotFoundError:
            raise
        except (pa.ArrowException, OSError, ValueError, KeyError) as error:
            raise UnusablePack(path, f"is not a whole pack ({error})") from error
        raise UnusablePack(path, f"is a pack of format version {version}, and this is version {FORMAT_VERSION}")

    def __len__(self) -> int:
        return len(self.labels)

    def __reduce__(self) -> tuple[Any, ...]:
        return Pack.open, (self.path,)

    def gather(self, indices: np.ndarray) -> tuple[Tensor, Tensor]:
        """Copies of the pairs at ``indices`` (N,), in that order.

        Returns: high_res (N, 3, 32, 128) uint8 and low_res (N, 3, 16, 64) uint8.
        Raises: DamagedPack if one is not what was packed; the file is deleted, so that the next who asks builds it.
        """
        high_res, low_res = self._high_res.take(indices, axis=0), self._low_res.take(indices, axis=0)
        for place in np.flatnonzero(~self._checked[indices]):
            row = indices[place]
            if pixels_checksum(high_res[place].data, low_res[place].data) != self._checksums[row]:
                self.path.unlink(missing_ok=True)
                raise DamagedPack(
                    f"the pack {self.path} was damaged: pair {row} is not what was packed. It is deleted now, and "
                    "built again when it is next asked for"
                )
            self._checked[row] = True
        return torch.from_numpy(high_res), torch.from_numpy(low_res)


def pixels_checksum(high_res: memoryview | bytes, low_res: memoryview | bytes) -> int:
    """CRC-32 of one pair's pixels."""
    return zlib.crc32(low_res, zlib.crc32(high_res))


def checksum(
    metadata: Mapping[str, str],
    labels: Sequence[str],
    keys: Sequence[str],
    image_hashes: np.ndarray,
    pixels_checksums: np.ndarray,
) -> str:
    """CRC-32 of all that is in a pack but the pixels."""
    described = [f"{name}={value}" for name, value in sorted(metadata.items()) if name != "checksum"]
    texts = "\n".join([*described, *labels, *keys]).encode()
    return str(zlib.crc32(pixels_checksums.tobytes(), zlib.crc32(image_hashes.tobytes(), zlib.crc32(texts))))


def _pixels(column: pa.FixedSizeBinaryArray, shape: tuple[int, int, int]) -> np.ndarray:
    """A view (N, C, H, W) of the mapped file. Raises: ValueError if the column's width is not C·H·W."""
    width = int(np.prod(shape))
    if column.type != pa.binary(width):
        raise ValueError(f"pixels of type {column.type}, expected {width} bytes each")
    start = column.offset * width
    pixels = np.frombuffer(column.buffers()[1], np.uint8)[start : start + len(column) * width]
    return pixels.reshape(len(column), *shape)


def build_pack(
    root: str | Path,
    *,
    cache_folder: str | Path,
    degradation: DegradationName = "none",
    max_label_length: int = 25,
    max_rejected_fraction: float = 0.02,
    labelled: bool = True,
    progress: Progress | None = None,
) -> Pack:
    """The pack of an LMDB: the cached one if there is one of the same fingerprint, else a new one.

    One that is not whole is built again, with a warning.
    Processes that ask for the same pack at the same time wait for the first of them to build it.

    Args:
        root: the LMDB's folder.
        cache_folder: where packs are kept; made if it is not there.
        degradation: what low_res of a single set goes through after its resize, seeded by the sample's 1-based
            index; a paired set has its own low_res, and this is not asked.
        max_label_length: samples with more characters are rejected.
        max_rejected_fraction: rejecting more of the set is an error.
        labelled: whether labels are packed; else ``root`` may be a plain folder of pictures too, all labels are '',
            pictures far larger than a word are rejected, and too much is rejected only if nothing is left.
        progress: called with (samples done, samples in all).

    Raises: ValueError for a root that is not a usable LMDB, or of which too much would be rejected; OSError if the
        pack cannot be written.
    """
    store = _open_store(Path(root), labelled)
    if store.kind == "paired":
        degradation = "none"
    max_rejected_fraction = max_rejected_fraction if labelled else 1.0
    fingerprint = _fingerprint(store, degradation, max_label_length if labelled else None)
    name = store.root.resolve().name
    folder = Path(cache_folder).expanduser()
    path = folder / f"{name}-{fingerprint[:16]}.arrow"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with locked(path.with_suffix(".lock")):
            pack = _cached(path, fingerprint)
            if pack is None:
                for left_over in folder.glob(f".{path.stem}.*"):  # of a process that was killed here
                    shutil.rmtree(left_over, ignore_errors=True)
                with tempfile.TemporaryDirectory(prefix=f".{path.stem}.", dir=folder) as scratch:
                    finished = Path(scratch) / "pack.arrow"
                    metadata = {"name": name, "fingerprint": fingerprint, "degradation": degradation}
                    limits = (max_label_length if labelled else None, max_rejected_fraction)
                    _write(store, finished, metadata, degradation, *limits, progress)
                    os.replace(finished, path)
                pack = Pack.open(path)
    except OSError as error:
        raise OSError(
            f"the pack of {root} cannot be written in {folder}: {error}; {remedy(error)} (a pair takes 15 kB, while "
            "it is being packed 30 kB), or set data.cache_folder to another folder"
        ) from error
    pack.report.check(str(root), max_rejected_fraction)
    return pack


def _cached(path: Path, fingerprint: str) -> Pack | None:
    try:
        pack = Pack.open(path)
    except FileNotFoundError:
        return None
    except UnusablePack as error:
        warnings.warn(f"the pack {path} {error.reason}; it is built again", stacklevel=3)
        return None
    return pack if pack.fingerprint == fingerprint else None


def _open_store(root: Path, labelled: bool) -> Store:
    if labelled or (root / LMDB_FILE).is_file():
        return LmdbStore.open(root)
    return PictureFolder(root)


def _fingerprint(store: Store, degradation: str, max_label_length: int | None) -> str:
    decides = {
        "content": store.fingerprint(),
        "format_version": FORMAT_VERSION,
        "sizes": [HIGH_RES_SIZE, LOW_RES_SIZE],
        "resampling": "bicubic",
        "degradation": [degradation, DEGRADATION_VERSION] if degradation != "none" else [],
        "max_label_length": max_label_length,
    }
    return hashlib.blake2b(json.dumps(decides).encode(), digest_size=16).hexdigest()


def _write(
    store: Store,
    path: Path,
    metadata: dict[str, str],
    degradation: DegradationName,
    max_label_length: int | None,
    max_rejected_fraction: float,
    progress: Progress | None,
) -> None:
    """Without labels where their length is None. Raises: ValueError if too much was rejected, or nothing is left."""
    report = RejectionReport(len(store), num_unread=store.num_unread())
    labels, keys, hashes, checksums = [], [], [], []
    raw = {side: path.with_name(side) for side in ("high_res", "low_res")}
    with open(raw["high_res"], "wb") as high_res_file, open(raw["low_res"], "wb") as low_res_file:
        for i in range(1, len(store) + 1):
            try:
                label, decode = "", decode_word
                if isinstance(store, LmdbStore) and max_label_length is not None:
                    label, decode = _usable_label(store, i, max_label_length), decode_image
                image_hash, of_pixels = _write_pixels(store, i, decode, degradation, high_res_file, low_res_file)
                hashes.append(image_hash)
                checksums.append(of_pixels)
                labels.append(label)
                keys.append(store.image_key(i))
            except RecordError as error:
                report.add(error.reason, error.key)
            if progress is not None:
                progress(i, len(store))
    report.check(str(store.root), max_rejected_fraction)
    if not labels:
        raise ValueError(f"{store.root}: {report.describe()}; nothing is left to pack")
    image_hashes, pixels_checksums = np.array(hashes, np.uint64), np.array(checksums, np.uint32)
    metadata = metadata | {
        "format_version": str(FORMAT_VERSION),
        "kind": store.kind,
        "report": report.to_json(),
    }
    metadata["checksum"] = checksum(metadata, labels, keys, image_hashes, pixels_checksums)
    # Mapped, not read: the pixels of a large set need not fit into memory.
    columns = {side: _fixed_size_column(file, len(labels)) for side, file in raw.items()}
    columns |= {
        "label": pa.array(labels, pa.string()),
        "key": pa.array(keys, pa.string()),
        "image_hash": pa.array(image_hashes),
        "checksum": pa.array(pixels_checksums),
    }
    batch = pa.record_batch(columns).replace_schema_metadata(metadata)
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, batch.schema) as writer:
        writer.write_batch(batch)


def _usable_label(store: LmdbStore, i: int, max_label_length: int) -> str:
    label = store.label(i)
    if not label.strip():
        raise RecordError("empty label", store.image_key(i))
    if len(label) > max_label_length:
        raise RecordError("over-long label", store.image_key(i), f"{len(label)} characters")
    return label


def _write_pixels(
    store: Store,
    i: int,
    decode: Callable[[bytes, str], Image.Image],
    degradation: DegradationName,
    high_res_file: BinaryIO,
    low_res_file: BinaryIO,
) -> tuple[int, int]:
    """Append one pair to the two files; returns the hash of its source image and the checksum of its pixels."""
    key = store.image_key(i)
    if isinstance(store, LmdbStore) and store.kind == "paired":
        source = store.high_res(i)
        high_res = resize(decode(source, key), HIGH_RES_SIZE)
        low_res = resize(decode(store.low_res(i), key), LOW_RES_SIZE)
    else:
        source = store.image(i)
        image = decode(source, key)
        high_res = resize(image, HIGH_RES_SIZE)
        low_res = make_low_res(high_res, resize(image, LOW_RES_SIZE), i, degradation)
    high_res_pixels, low_res_pixels = (pixels.transpose(2, 0, 1).tobytes() for pixels in (high_res, low_res))
    high_res_file.write(high_res_pixels)
    low_res_file.write(low_res_pixels)
    image_hash = int.from_bytes(hashlib.blake2b(source, digest_size=8).digest(), "little")
    return image_hash, pixels_checksum(high_res_pixels, low_res_pixels)


def _fixed_size_column(path: Path, num_rows: int) -> pa.FixedSizeBinaryArray:
    with pa.memory_map(str(path)) as file:
        pixels = file.read_buffer()
    return pa.FixedSizeBinaryArray.from_buffers(pa.binary(pixels.size // num_rows), num_rows, [None, pixels])
