"""Predicted words as a table, JSON lines or Parquet; a file is there when it is whole."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq
from tqdm import tqdm

from kdltr_core.files import whole_file
from pipelines.prediction.options import Format
from pipelines.prediction.predictions import PredictedWord

Write = Callable[[Sequence[PredictedWord]], None]

WORD_WIDTH = 25
WORDS_IN_A_ROW_GROUP = 50_000

_COLUMNS = {
    "image": pa.string(),
    "text": pa.string(),
    "confidence": pa.float32(),
    "character_confidences": pa.list_(pa.float32()),
}
_BOX = {"box": pa.list_(pa.list_(pa.float32()))}


@contextmanager
def open_output(kind: Format, path: str, with_boxes: bool) -> Iterator[Write]:
    """A function that takes words as they are read.

    Args:
        kind: not auto.
        path: a file; empty: standard output.

    Raises: OSError if it cannot be written; what was there before is untouched.
    """
    with ExitStack() as stack:
        file: BinaryIO = sys.stdout.buffer
        if path:
            file = stack.enter_context(stack.enter_context(whole_file(Path(path).expanduser())).open("wb"))
        if kind == "parquet":
            yield stack.enter_context(_parquet(file, with_boxes))
        elif kind == "jsonl":
            yield lambda words: _write_lines(file, [json.dumps(as_dict(word), ensure_ascii=False) for word in words])
        else:
            head = f"{'text':{WORD_WIDTH}}  confidence, %  image  {'box  ' * with_boxes}confidence of each character"
            _write_lines(file, [head])
            yield lambda words: _write_lines(file, [_line(word) for word in words])


def as_table(words: Sequence[PredictedWord], with_boxes: bool) -> pa.Table:
    """Arrow columns image, text, confidence, character_confidences and, with boxes, box (four corners x, y)."""
    return pa.Table.from_pylist([as_dict(word) for word in words], pa.schema(_COLUMNS | (_BOX if with_boxes else {})))


def as_dict(word: PredictedWord) -> dict[str, Any]:
    """A word by the names of the columns; without a box if there is none."""
    return {
        "image": word.image,
        "text": word.prediction.text,
        "confidence": round(word.prediction.confidence, 6),
        "character_confidences": [round(one, 6) for one in word.prediction.character_confidences],
    } | ({"box": [[round(x, 1), round(y, 1)] for x, y in word.box]} if word.box else {})


@contextmanager
def _parquet(file: BinaryIO, with_boxes: bool) -> Iterator[Write]:
    waiting: list[PredictedWord] = []
    with pq.ParquetWriter(file, as_table([], with_boxes).schema) as parquet:

        def write(words: Sequence[PredictedWord]) -> None:
            waiting.extend(words)
            if len(waiting) >= WORDS_IN_A_ROW_GROUP:
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


def _line(word: PredictedWord) -> str:
    read = word.prediction
    each = " ".join(f"{c} {100 * one:.0f}" for c, one in zip(read.text, read.character_confidences, strict=True))
    box = " ".join(f"{x:.0f},{y:.0f}" for x, y in word.box) + "  " if word.box else ""
    return f"{read.text:{WORD_WIDTH}}  {100 * read.confidence:13.1f}  {word.image}  {box}{each}"
