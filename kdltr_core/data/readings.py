"""What a teacher reads in pictures without labels: each is read once, and the readings are kept beside their pack."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from kdltr_core.data.pack import Pack
from kdltr_core.files import locked, whole_file


@dataclass(frozen=True)
class WordReader:
    """Who reads.

    Attributes:
        fingerprint: hex, of all that decides what is read.
        read: a pack to the text and confidence in [0, 1] of each of its words.
    """

    fingerprint: str
    read: Callable[[Pack], tuple[list[str], list[float]]]


@dataclass(frozen=True)
class Readings:
    """Of the words of a pack, in its order: the text, and (N,) float32 in [0, 1] how sure the reader is of it."""

    path: Path
    texts: list[str]
    confidences: np.ndarray

    @classmethod
    def open(cls, path: Path, num_words: int) -> Readings | None:
        """None where there is no whole file of so many."""
        try:
            table = pq.read_table(path)
            texts, confidences = table["text"].to_pylist(), table["confidence"].to_numpy()
        except (FileNotFoundError, pa.ArrowException, KeyError):
            return None
        return cls(path, texts, confidences) if len(texts) == num_words else None


def read_once(pack: Pack, reader: WordReader) -> Readings:
    """The readings of this reader, by the first process that asks. Raises: OSError if they cannot be kept."""
    path = pack.path.with_name(f"{pack.path.stem}-read-by-{reader.fingerprint[:16]}.parquet")
    with locked(path.with_suffix(".lock")):
        if (known := Readings.open(path, len(pack))) is not None:
            return known
        texts, confidences = reader.read(pack)
        columns = {"key": pack.keys, "text": texts, "confidence": pa.array(confidences, pa.float32())}
        with whole_file(path) as writing:
            pq.write_table(pa.table(columns), writing)
    return Readings(path, texts, np.array(confidences, np.float32))
