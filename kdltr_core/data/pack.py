"""Pixels of a whole set in one memory-mapped file: batches are gathered without decoding anything."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
import torch
from pydantic import TypeAdapter
from torch import Tensor

from kdltr_core.config import HIGH_RES_SIZE, LOW_RES_SIZE, DegradationName
from kdltr_core.data.drops import DropReport
from kdltr_core.data.lmdb_store import Kind

FORMAT_VERSION = 1
HIGH_RES_SHAPE = (3, *HIGH_RES_SIZE)
LOW_RES_SHAPE = (3, *LOW_RES_SIZE)


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
        self.report = DropReport.from_json(metadata["report"])
        self.labels: list[str] = batch.column("label").to_pylist()
        self.keys: list[str] = batch.column("key").to_pylist()
        self.image_hashes: np.ndarray = batch.column("image_hash").to_numpy()
        self._high_res = _pixels(batch.column("high_res"), HIGH_RES_SHAPE)
        self._low_res = _pixels(batch.column("low_res"), LOW_RES_SHAPE)

    @classmethod
    def open(cls, path: str | Path) -> Pack:
        """Map a pack into memory; nothing is read but its labels, keys and hashes.

        Raises: ValueError if it is not a pack, is cut short, or is of another format version.
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
                batch.validate(full=False)
                return cls(path, metadata, batch)
        except FileNotFoundError:
            raise
        except (pa.ArrowException, OSError, ValueError, KeyError) as error:
            raise ValueError(f"{path} is not a whole pack ({error}); delete it and it is built again") from error
        raise ValueError(
            f"{path} is a pack of format version {version}, and this is version {FORMAT_VERSION}; "
            "delete it and it is built again"
        )

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
        """
        return (
            torch.from_numpy(self._high_res.take(indices, axis=0)),
            torch.from_numpy(self._low_res.take(indices, axis=0)),
        )


def _pixels(column: pa.FixedSizeBinaryArray, shape: tuple[int, int, int]) -> np.ndarray:
    """A view (N, C, H, W) of the mapped file. Raises: ValueError if the column's width is not C·H·W."""
    width = int(np.prod(shape))
    if column.type != pa.binary(width):
        raise ValueError(f"pixels of type {column.type}, expected {width} bytes each")
    start = column.offset * width
    pixels = np.frombuffer(column.buffers()[1], np.uint8)[start : start + len(column) * width]
    return pixels.reshape(len(column), *shape)
