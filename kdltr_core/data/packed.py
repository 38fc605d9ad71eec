"""LMDB → pack: decode, resize and degrade once, under a lock, all or nothing."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

import filelock
import numpy as np
import pyarrow as pa

from kdltr_core.config import HIGH_RES_SIZE, LOW_RES_SIZE, DegradationName
from kdltr_core.data.degrade import DEGRADATION_VERSION, degrade
from kdltr_core.data.images import decode_image, resize
from kdltr_core.data.lmdb_store import LmdbStore
from kdltr_core.data.pack import FORMAT_VERSION, Pack, UnusablePack, checksum, pixels_checksum
from kdltr_core.data.rejected import RecordError, RejectionReport

Progress = Callable[[int, int], None]


def build_pack(
    root: str | Path,
    *,
    cache_folder: str | Path,
    degradation: DegradationName = "none",
    max_label_length: int = 25,
    max_rejected_fraction: float = 0.02,
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
        progress: called with (samples done, samples in all).

    Raises: ValueError for a root that is not a usable LMDB, or of which too much would be rejected; OSError if the
        pack cannot be written.
    """
    store = LmdbStore.open(root)
    if store.kind == "paired":
        degradation = "none"
    fingerprint = _fingerprint(store.root, degradation, max_label_length)
    name = store.root.resolve().name
    folder = Path(cache_folder).expanduser()
    path = folder / f"{name}-{fingerprint[:16]}.arrow"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with filelock.FileLock(path.with_suffix(".lock")):
            pack = _cached(path, fingerprint)
            if pack is None:
                for left_over in folder.glob(f".{path.stem}.*"):  # of a process that was killed here
                    shutil.rmtree(left_over, ignore_errors=True)
                with tempfile.TemporaryDirectory(prefix=f".{path.stem}.", dir=folder) as scratch:
                    finished = Path(scratch) / "pack.arrow"
                    metadata = {"name": name, "fingerprint": fingerprint, "degradation": degradation}
                    _write(store, finished, metadata, degradation, max_label_length, max_rejected_fraction, progress)
                    os.replace(finished, path)
                pack = Pack.open(path)
    except OSError as error:
        raise OSError(
            f"the pack of {root} cannot be written in {folder}: {error}. Make room there (a pair takes 15 kB, while it "
            "is being packed 30 kB), or set data.cache_folder to another folder."
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


def _fingerprint(root: Path, degradation: str, max_label_length: int) -> str:
    with open(root / "data.mdb", "rb") as file:
        content = hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).hexdigest()
    decides = {
        "content": content,
        "format_version": FORMAT_VERSION,
        "sizes": [HIGH_RES_SIZE, LOW_RES_SIZE],
        "resampling": "bicubic",
        "degradation": [degradation, DEGRADATION_VERSION] if degradation != "none" else [],
        "max_label_length": max_label_length,
    }
    return hashlib.blake2b(json.dumps(decides).encode(), digest_size=16).hexdigest()


def _write(
    store: LmdbStore,
    path: Path,
    metadata: dict[str, str],
    degradation: DegradationName,
    max_label_length: int,
    max_rejected_fraction: float,
    progress: Progress | None,
) -> None:
    """Raises: ValueError if too much was rejected, or nothing is left."""
    report = RejectionReport(len(store))
    labels, keys, hashes, checksums = [], [], [], []
    raw = {side: path.with_name(side) for side in ("high_res", "low_res")}
    with open(raw["high_res"], "wb") as high_res_file, open(raw["low_res"], "wb") as low_res_file:
        for i in range(1, len(store) + 1):
            try:
                label = _usable_label(store, i, max_label_length)
                image_hash, of_pixels = _write_pixels(store, i, degradation, high_res_file, low_res_file)
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
    store: LmdbStore, i: int, degradation: DegradationName, high_res_file: BinaryIO, low_res_file: BinaryIO
) -> tuple[int, int]:
    """Append one pair to the two files; returns the hash of its source image and the checksum of its pixels."""
    key = store.image_key(i)
    if store.kind == "paired":
        source = store.high_res(i)
        image = decode_image(source, key)
        low_res = resize(decode_image(store.low_res(i), key), LOW_RES_SIZE)
    else:
        source = store.image(i)
        image = decode_image(source, key)
        low_res = degrade(resize(image, LOW_RES_SIZE), i, degradation)
    high_res_pixels, low_res_pixels = (
        pixels.transpose(2, 0, 1).tobytes() for pixels in (resize(image, HIGH_RES_SIZE), low_res)
    )
    high_res_file.write(high_res_pixels)
    low_res_file.write(low_res_pixels)
    image_hash = int.from_bytes(hashlib.blake2b(source, digest_size=8).digest(), "little")
    return image_hash, pixels_checksum(high_res_pixels, low_res_pixels)


def _fixed_size_column(path: Path, num_rows: int) -> pa.FixedSizeBinaryArray:
    with pa.memory_map(str(path)) as file:
        pixels = file.read_buffer()
    return pa.FixedSizeBinaryArray.from_buffers(pa.binary(pixels.size // num_rows), num_rows, [None, pixels])
