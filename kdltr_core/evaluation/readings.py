"""Who read which images, and what was read of every word."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

import pyarrow as pa
import pyarrow.parquet as pq

from kdltr_core.charset import Protocol
from kdltr_core.metrics import is_correct

Role = Literal["teacher_high_res", "teacher_enlarged", "student_low_res", "two_stage"]
ImageKind = Literal["high_res", "enlarged", "low_res"]

_IMAGES: dict[Role, ImageKind] = {
    "teacher_high_res": "high_res",
    "teacher_enlarged": "enlarged",
    "student_low_res": "low_res",
    "two_stage": "low_res",
}


@dataclass(frozen=True)
class Column:
    """A reader and the images it reads; ``name`` tells several of one role apart."""

    role: Role
    name: str = ""

    @property
    def key(self) -> str:
        """As files have it: ``student_low_res`` or ``student_low_res:name``."""
        return f"{self.role}:{self.name}" if self.name else self.role

    @property
    def title(self) -> str:
        """As tables have it: ``teacher, enlarged low_res``, ``student (name), low_res`` or ``two-stage, low_res``."""
        who = "two-stage" if self.role == "two_stage" else self.role.partition("_")[0]
        who += f" ({self.name})" if self.name else ""
        return f"{who}, enlarged low_res" if self.image == "enlarged" else f"{who}, {self.image}"

    @property
    def image(self) -> ImageKind:
        """Which images the reader is shown, in ``readers.recognizer_reader``'s words."""
        return _IMAGES[self.role]

    @classmethod
    def parse(cls, key: str) -> Column:
        """The inverse of ``key``. Raises: ValueError for an unknown role."""
        role, _, name = key.partition(":")
        for known in get_args(Role):
            if role == known:
                return cls(known, name)
        raise ValueError(f"{key!r} is no column of a benchmark table; expected one of {', '.join(get_args(Role))}")


TEACHER_HIGH_RES = Column("teacher_high_res")
TEACHER_ENLARGED = Column("teacher_enlarged")
STUDENT_LOW_RES = Column("student_low_res")


@dataclass(frozen=True)
class Reading:
    """One word of a benchmark: ``row`` counts from 0 in its set, ``key`` is its name in the source.

    ``confidences``, in [0, 1], are those of the readings; empty where they are not known.
    """

    set_name: str
    row: int
    key: str
    label: str
    by_column: Mapping[Column, str]
    confidences: Mapping[Column, float] = field(default_factory=dict)

    def is_correct(self, column: Column, protocol: Protocol = "36") -> bool:
        return is_correct(self.by_column[column], self.label, protocol)


def write_readings(path: str | Path, readings: Sequence[Reading], protocol: Protocol = "36") -> None:
    """Parquet, one row a word: set, key, label, then each reader's reading, whether it is right, and its confidence.

    Raises: ValueError if there are no readings.
    """
    if not readings:
        raise ValueError(f"there are no readings to write into {path}; a table read back from JSON holds only counts")
    arrays: dict[str, Any] = {
        "set": pa.array([r.set_name for r in readings]),
        "key": pa.array([r.key for r in readings]),
        "label": pa.array([r.label for r in readings]),
    }
    for column in readings[0].by_column:
        arrays[column.key] = pa.array([r.by_column[column] for r in readings])
        arrays[f"{column.key}_correct"] = pa.array([r.is_correct(column, protocol) for r in readings])
        if column in readings[0].confidences:
            arrays[f"{column.key}_confidence"] = pa.array([r.confidences[column] for r in readings], pa.float32())
    pq.write_table(pa.table(arrays).replace_schema_metadata({"protocol": protocol}), path)
