"""The metrics log of a run, metrics.jsonl: every figure, as it was measured. What curves and bars are drawn from."""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

from pydantic import TypeAdapter, ValidationError


@dataclass(frozen=True)
class Record:
    """Metrics of one step, or what whoever watches is told; ``time`` in milliseconds since 1970.

    Attributes:
        done: what is being done after the training, how much of it, and of how much.
    """

    step: int
    time: int
    metrics: dict[str, float] = field(default_factory=dict)
    note: str = ""
    done: tuple[str, int, int] | None = None


_SPEED = "train/images_per_second"
_RECORD = TypeAdapter(Record)


class AnotherWriter(RuntimeError):
    """Someone else has written since: this process was taken for dead and has a successor."""


class MetricsLog:
    """Appends to the metrics log of a run; one writer at a time (rank 0).

    A step that was already recorded under a name is not recorded again: after a crash the steps since the last
    checkpoint are trained twice, and their points would lie twice on every curve. Where the disk is full, lines wait
    in memory.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._step = 0
        self._last: dict[str, int] = {}
        self._waiting = b""
        records, self._size = read_records(path)
        for record in records:
            self._step = max(self._step, record.step)
            self._last.update(dict.fromkeys(record.metrics, record.step))
        self._cut_to_whole_lines()

    def record(self, step: int, metrics: Mapping[str, float]) -> None:
        """Raises: AnotherWriter."""
        self._step = step
        fresh = {name: float(value) for name, value in metrics.items() if step > self._last.get(name, -1)}
        if fresh:
            self._last.update(dict.fromkeys(fresh, step))
            self._write({"step": step, "time": _now(), "metrics": fresh})

    def note(self, sentence: str) -> None:
        self._write({"step": self._step, "time": _now(), "note": sentence})

    def progress(self, label: str, done: int, total: int) -> None:
        self._write({"step": self._step, "time": _now(), "done": [label, done, total]})

    def _write(self, line: Mapping[str, object]) -> None:
        self._waiting += json.dumps(line).encode() + b"\n"
        try:
            with self._path.open("ab") as file:
                if file.tell() not in (0, self._size):  # 0: it was deleted, and begins anew
                    raise AnotherWriter(f"another process writes {self._path}; this one leaves it alone")
                file.write(self._waiting)
                size = file.tell()
        except OSError:
            self._cut_to_whole_lines()
            return
        self._size = size
        self._waiting = b""

    def _cut_to_whole_lines(self) -> None:
        with suppress(FileNotFoundError):
            os.truncate(self._path, self._size)


def read_records(path: Path, offset: int = 0, limit: int | None = None) -> tuple[list[Record], int]:
    """Whole lines from a byte offset on (at most ``limit``), and the offset after them.

    Lines that are no records are passed over. Where the file is shorter than the offset, it is another one and read
    from its beginning.
    """
    records: list[Record] = []
    with suppress(FileNotFoundError), path.open("rb") as file:
        offset = offset if offset <= os.fstat(file.fileno()).st_size else 0
        file.seek(offset)
        for line in file:
            if not line.endswith(b"\n") or len(records) == limit:
                break
            with suppress(ValidationError):
                records.append(_RECORD.validate_json(line))
            offset += len(line)
    return records, offset


def training_speed(path: Path) -> float:
    """Images per second: the median of what was recorded, which a slow start does not spoil; nan without any."""
    return median([r.metrics[_SPEED] for r in read_records(path)[0] if _SPEED in r.metrics] or [math.nan])


def _now() -> int:
    return int(time.time() * 1000)
