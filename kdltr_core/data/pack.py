"""Pixels of a whole set in memory-mapped files, made of its LMDB once: batches are gathered without decoding."""

from __future__ import annotations

import hashlib
import json
import warnings
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from PIL import Image
from torch import Tensor

from kdltr_core.config import HIGH_RES_SIZE, LOW_RES_SIZE, MAX_LABEL_LENGTH, DegradationName
from kdltr_core.data.degrade import DEGRADATION_VERSION, make_low_res
from kdltr_core.data.images import decode_image, resize
from kdltr_core.data.lmdb_store import Kind, LmdbStore
from kdltr_core.data.picture_folder import PictureFolder
from kdltr_core.data.rejected import RecordError, RejectionReport
from kdltr_core.files import Progress, locked, remedy, whole_folder
from kdltr_core.remote import LMDB_FILE

Store = LmdbStore | PictureFolder

FORMAT_VERSION = 5
HIGH_RES_SHAPE = (3, *HIGH_RES_SIZE)
LOW_RES_SHAPE = (3, *LOW_RES_SIZE)
# An unlabelled picture whose shorter side has more pixels is a page or a scene rather than a cut-out word.
LARGEST_WORD = 640
_WORDS = "words.parquet"


class UnusablePack(ValueError):
    """A folder that is no whole pack of this version."""


class Pairs(Protocol):
    """What a reader of pairs needs: a pack is one, a subset of joined packs another."""

    @property
    def labels(self) -> list[str]: ...
    def __len__(self) -> int: ...
    def gather(self, indices: np.ndarray) -> tuple[Tensor, Tensor]: ...


class Pack:
    """One set, ready to be gathered from: a folder of a Parquet file of words and two files of pixels, one by one.

    Nothing is read beforehand but labels, keys and hashes.

    Attributes:
        path: the folder.
        name: the folder name of the LMDB it was made from.
        kind: "paired" or "single", as the LMDB was.
        labels: one string per pair, as the LMDB has them.
        keys: the LMDB key of each pair's (high-resolution) image.
        image_hashes: (N,) uint64, of that image's encoded bytes.
        fingerprint: of the LMDB's content and of everything that decides what is in this folder.
        report: the samples that are not in it, and why.

    Raises: UnusablePack if it is not there, cut short or of another format version.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        try:
            table = pq.read_table(self.path / _WORDS)
            notes = {key.decode(): value.decode() for key, value in table.schema.metadata.items()}
            if notes["format_version"] != str(FORMAT_VERSION):
                raise ValueError(f"format version {notes['format_version']}, and this is version {FORMAT_VERSION}")
            self.name, self.fingerprint = notes["name"], notes["fingerprint"]
            self.kind: Kind = "paired" if notes["kind"] == "paired" else "single"
            self.report = RejectionReport.from_json(notes["report"])
            self.labels: list[str] = table["label"].to_pylist()
            self.keys: list[str] = table["key"].to_pylist()
            self.image_hashes: np.ndarray = table["image_hash"].to_numpy()
            self._high_res, self._low_res = (
                np.asarray(np.memmap(self.path / side, np.uint8, "r", shape=(len(table), *shape)))
                for side, shape in (("high_res", HIGH_RES_SHAPE), ("low_res", LOW_RES_SHAPE))
            )
        except (pa.ArrowException, OSError, ValueError, KeyError) as error:
            raise UnusablePack(f"{self.path} is not a whole pack of this version ({error})") from error

    def __len__(self) -> int:
        return len(self.labels)

    def __reduce__(self) -> tuple[Any, ...]:
        return Pack, (self.path,)

    def gather(self, indices: np.ndarray) -> tuple[Tensor, Tensor]:
        """Copies of the pairs at ``indices`` (N,), in that order.

        Returns: high_res (N, 3, 32, 128) uint8 and low_res (N, 3, 16, 64) uint8.
        """
        return torch.from_numpy(self._high_res.take(indices, 0)), torch.from_numpy(self._low_res.take(indices, 0))


def build_pack(
    root: str | Path,
    cache_folder: str | Path,
    degradation: DegradationName = "none",
    *,
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
        labelled: whether labels are packed; else ``root`` may be a plain folder of pictures too, all labels are '',
            and pictures far larger than a word are rejected.
        progress: called with (samples done, samples in all).

    Raises: ValueError for a root that is not a usable LMDB, or of which nothing is left; OSError if the pack cannot be
        written.
    """
    root, folder = Path(root), Path(cache_folder).expanduser()
    store = LmdbStore.open(root) if labelled or (root / LMDB_FILE).is_file() else PictureFolder(root)
    if store.kind == "paired":
        degradation = "none"
    fingerprint = _fingerprint(store, degradation, labelled)
    name = store.root.resolve().name
    path = folder / f"{name}-{fingerprint[:16]}.pack"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with locked(path.with_suffix(".lock")):
            if path.exists():
                try:
                    if (pack := Pack(path)).fingerprint == fingerprint:
                        return pack
                except UnusablePack as error:
                    warnings.warn(f"{error}; it is built again", stacklevel=2)
            with whole_folder(path) as writing:
                notes = {"name": name, "fingerprint": fingerprint}
                _write(store, writing, notes, degradation, labelled, progress)
            return Pack(path)
    except OSError as error:
        raise OSError(
            f"the pack of {root} cannot be written in {folder}: {error}; {remedy(error)} (a pair takes 15 kB), or set "
            "data.cache_folder to another folder"
        ) from error


def _fingerprint(store: Store, degradation: str, labelled: bool) -> str:
    decides = {
        "content": store.fingerprint(),
        "format_version": FORMAT_VERSION,
        "sizes": [HIGH_RES_SIZE, LOW_RES_SIZE],
        "resampling": "bicubic",
        "degradation": [degradation, DEGRADATION_VERSION] if degradation != "none" else [],
        "labelled": labelled,
    }
    return hashlib.blake2b(json.dumps(decides).encode(), digest_size=16).hexdigest()


def _write(
    store: Store,
    folder: Path,
    notes: dict[str, str],
    degradation: DegradationName,
    labelled: bool,
    progress: Progress | None,
) -> None:
    """Raises: ValueError if nothing is left."""
    report = RejectionReport(len(store), num_unread=store.num_unread())
    labels, keys, hashes = [], [], []
    with (folder / "high_res").open("wb") as high_res_file, (folder / "low_res").open("wb") as low_res_file:
        for i in range(1, len(store) + 1):
            try:
                label, images, encoded = read_sample(store, i, labelled)
            except RecordError as error:
                report.add(error.reason, error.key)
            else:
                high_res, low_res = resize(images[0], HIGH_RES_SIZE), resize(images[-1], LOW_RES_SIZE)
                if len(images) == 1:
                    low_res = make_low_res(high_res, low_res, i, degradation)
                high_res_file.write(high_res.transpose(2, 0, 1).tobytes())
                low_res_file.write(low_res.transpose(2, 0, 1).tobytes())
                labels.append(label)
                keys.append(store.image_key(i))
                hashes.append(int.from_bytes(hashlib.blake2b(encoded[0], digest_size=8).digest(), "little"))
            if progress is not None:
                progress(i, len(store))
    if not labels:
        raise ValueError(f"{store.root}: {report.describe()}; nothing is left to pack")
    notes = notes | {"format_version": str(FORMAT_VERSION), "kind": store.kind, "report": report.to_json()}
    table = pa.table({"label": labels, "key": keys, "image_hash": np.array(hashes, np.uint64)})
    pq.write_table(table.replace_schema_metadata(notes), folder / _WORDS)


def read_sample(store: Store, i: int, labelled: bool = True) -> tuple[str, list[Image.Image], list[bytes]]:
    """Label, image or both images of a pair, and their encoded bytes.

    Args:
        labelled: whether the label is read; else it is '', and the picture is to be no larger than a word.

    Raises: RecordError for what cannot be trained on.
    """
    key, label = store.image_key(i), store.label(i) if labelled else ""
    if labelled and not label.strip():
        raise RecordError("empty label", key)
    if len(label) > MAX_LABEL_LENGTH:
        raise RecordError("over-long label", key, f"{len(label)} characters")
    encoded = store.images(i)
    images = [decode_image(data, key) for data in encoded]
    if not labelled and min(images[0].size) > LARGEST_WORD:
        raise RecordError("far larger than a word", key)
    return label, images, encoded
