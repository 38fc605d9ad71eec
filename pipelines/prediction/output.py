"""Words that were read, as a table, JSON lines or Parquet; a file is there when it is whole."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq
from tqdm import tqdm

from kdltr_core.files import whole_file
from pipelines.prediction.options import Format
from pipelines.prediction.reading import Row

Write = Callable[[Sequence[Row]], None]

WORD_WIDTH = 25
MAX_NAME_WIDTH = 60
ROWS_IN_A_GROUP = 50_000


@contextmanager
def open_output(kind: Format, path: str, with_boxes: bool, names: Sequence[str]) -> Iterator[Write]:
    """A function that takes words as they are read.

    Args:
        kind: not auto.
        path: a file; empty: standard output.
        names: of all images, by which a table is laid out.
    """
    if not path:
        with _writer(kind, sys.stdout.buffer, with_boxes, names) as write:
            yield write
        return
    with (
        whole_file(Path(path).expanduser()) as writing,
        writing.open("wb") as file,
        _writer(kind, file, with_boxes, names) as write,
    ):
        yield write


def as_table(rows: Sequence[Row], with_boxes: bool, metadata: Mapping[str, str] | None = None) -> pa.Table:
    """Arrow columns image, text, confidence, character_confidences and, with boxes, box (four corners x, y)."""
    fields = [
        pa.field("image", pa.string()),
        pa.field("text", pa.string()),
        pa.field("confidence", pa.float32()),
        pa.field("character_confidences", pa.list_(pa.float32())),
    ]
    if with_boxes:
        fields.append(pa.field("box", pa.list_(pa.list_(pa.float32()))))
    return pa.Table.from_pylist([record(row) for row in rows], pa.schema(fields, metadata))


def record(row: Row) -> dict[str, Any]:
    """A word by the names of the columns; without a box if there is none."""
    return {
        "image": row.image,
        "text": row.word.text,
        "confidence": round(row.word.confidence, 6),
        "character_confidences": [round(share, 6) for share in row.word.character_confidences],
    } | ({"box": [[round(x, 1), round(y, 1)] for x, y in row.box]} if row.box else {})


@contextmanager
def _writer(kind: Format, file: BinaryIO, with_boxes: bool, names: Sequence[str]) -> Iterator[Write]:
    if kind == "parquet":
        with _parquet(file, with_boxes) as write:
            yield write
        return
    if kind == "jsonl":
        yield lambda rows: _write_lines(file, [json.dumps(record(row), ensure_ascii=False) for row in rows])
        return
    width = min(MAX_NAME_WIDTH, max((len(name) for name in names), default=0))
    header = f"{'image':{width}}  {'text':{WORD_WIDTH}}  {'sure, %':>7}  of each character{', box' * with_boxes}"
    _write_lines(file, [header])
    yield lambda rows: _write_lines(file, [_line(row, width) for row in rows])


@contextmanager
def _parquet(file: BinaryIO, with_boxes: bool) -> Iterator[Write]:
    waiting: list[Row] = []
    with pq.ParquetWriter(file, as_table([], with_boxes).schema) as parquet:

        def write(rows: Sequence[Row]) -> None:
            waiting.extend(rows)
            if len(waiting) >= ROWS_IN_A_GROUP:
                parquet.write_table(as_table(waiting, with_boxes))
                waiting.clear()

        yield write
        parquet.write_table(as_table(waiting, with_boxes))


def _write_lines(file: BinaryIO, lines: Sequence[str]) -> None:
    if not lines:
        return
    # A bar on the same terminal steps aside meanwhile.
    with tqdm.external_write_mode(file=sys.stdout):
        file.write(("\n".join(lines) + "\n").encode())
        file.flush()


def _line(row: Row, name_width: int) -> str:
    name = row.image if len(row.image) <= name_width else f"…{row.image[1 - name_width :]}"
    word = row.word
    each = " ".join(f"{c} {100 * share:.0f}" for c, share in zip(word.text, word.character_confidences, strict=True))
    box = "  " + " ".join(f"{x:.0f},{y:.0f}" for x, y in row.box) if row.box else ""
    return f"{name:{name_width}}  {word.text:{WORD_WIDTH}}  {100 * word.confidence:7.1f}  {each}{box}"
