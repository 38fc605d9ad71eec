"""Pixels of a whole set in one memory-mapped file: batches are gathered without decoding anything."""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
import torch
from pydantic import TypeAdapter
from torch import Tensor

from kdltr_core.config import HIGH_RES_SIZE, LOW_RES_SIZE, DegradationName
from kdltr_core.data.lmdb_store import Kind
from kdltr_core.data.rejected import RejectionReport

FORMAT_VERSION = 2
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

    @property
    def num_pairs(self) -> int:
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
