"""The harm matrix: by kind of text and of low resolution, what a student reads more than its enlarged teacher."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from statistics import fmean
from typing import Any

from kdltr_core.config import DataConfig
from kdltr_core.data.held_out_texts import matrix_packs
from kdltr_core.distributed import DistributedContext
from kdltr_core.evaluation.benchmarks import BenchmarkReader, read_benchmarks
from kdltr_core.evaluation.significance import Gain, compare_paired, signed
from kdltr_core.evaluation.table import BenchmarkTable, Column, markdown_rows
from kdltr_core.inference.batched import EVALUATION_BATCH

# A benchmark has pictures of its own.
AS_GIVEN = "as given"
Progress = Callable[[int, int], None]


def measure_harm(
    readers: Sequence[BenchmarkReader],
    benchmarks: BenchmarkTable,
    data: DataConfig,
    num_words: int,
    *,
    batch_size: int = EVALUATION_BATCH,
    world: DistributedContext | None = None,
    progress: Progress | None = None,
) -> dict[Column, HarmMatrix]:
    """The matrix of each student among the readers beside the first enlarged teacher; none where one of them lacks.

    Args:
        benchmarks: what the readers read of the benchmarks.
        data: says where rendered texts are kept.
        num_words: of each cell; 0: no matrix.
        progress: called with (predictions made by this worker, predictions it has to make).
    """
    compared = compared_readers(readers)
    if not (num_words and compared):
        return {}
    packs = matrix_packs(data, num_words)
    table = read_benchmarks(
        compared,
        packs,
        batch_size=batch_size,
        protocol=benchmarks.protocol,
        world=world,
        progress=progress,
    )
    teacher, *students = compared
    return {s.column: HarmMatrix.build(table, benchmarks, s.column, teacher.column) for s in students}


def compared_readers(readers: Sequence[BenchmarkReader]) -> list[BenchmarkReader]:
    """Who reads the matrix: the first enlarged teacher, then all students; nobody where one of both lacks."""
    teachers = [reader for reader in readers if reader.column.role == "teacher_enlarged"]
    students = [reader for reader in readers if reader.column.role == "student_low_res"]
    return [teachers[0], *students] if teachers and students else []


@dataclass(frozen=True)
class HarmCell:
    """Student and enlarged teacher on the same words.

    Attributes:
        text: a kind of text, or the name of a benchmark.
        image: a kind of low resolution, or ``AS_GIVEN``.
        teacher, student: word accuracy in per cent.
        gain: student minus teacher in points, with the 95 % interval over words.
    """

    text: str
    image: str
    num_words: int
    teacher: float
    student: float
    gain: Gain

    @property
    def is_behind(self) -> bool:
        return self.gain.points < 0

    @property
    def is_surely_behind(self) -> bool:
        """Whether chance alone does not explain it."""
        return self.gain.high < 0

    def to_text(self) -> str:
        gain = self.gain
        mark = "!! " if self.is_surely_behind else "! " if self.is_behind else ""
        return f"{mark}{signed(gain.points)} ({signed(gain.low)} … {signed(gain.high)})"


@dataclass(frozen=True)
class HarmMatrix:
    """Cells by kind of text, then by kind of low resolution."""

    cells: tuple[HarmCell, ...]

    @classmethod
    def build(cls, matrix: BenchmarkTable, benchmarks: BenchmarkTable, student: Column, teacher: Column) -> HarmMatrix:
        """Of two tables that have both columns: of ``matrix_packs``, and of the benchmarks that were given."""
        cells = []
        for table, given in ((matrix, ""), (benchmarks, AS_GIVEN)):
            for name in table.scores:
                rows = table.rows_of(name)
                text, _, image = (name, "", given) if given else name.rpartition(", ")
                right = [table.correct[column][rows] for column in (teacher, student)]
                if len(rows) > 1:
                    (gain,) = compare_paired([right[0]], {"student": [right[1]]}).gains
                    teacher_reads, student_reads = (100 * float(of_one.mean()) for of_one in right)
                    cells.append(HarmCell(text, image, len(rows), teacher_reads, student_reads, gain))
        return cls(tuple(cells))

    @property
    def mean_gain(self) -> float:
        """Over the cells, in points."""
        return fmean(cell.gain.points for cell in self.cells)

    @property
    def metrics(self) -> dict[str, float]:
        """The few figures that a run is known by."""
        return {
            "harm/mean_gain": self.mean_gain,
            "harm/worst_gain": min(cell.gain.points for cell in self.cells),
            "harm/num_behind": sum(cell.is_surely_behind for cell in self.cells),
        }

    @property
    def texts(self) -> list[str]:
        return list(dict.fromkeys(cell.text for cell in self.cells))

    @property
    def images(self) -> list[str]:
        return list(dict.fromkeys(cell.image for cell in self.cells))

    def cell(self, text: str, image: str) -> HarmCell | None:
        return next((cell for cell in self.cells if (cell.text, cell.image) == (text, image)), None)

    @property
    def summary(self) -> str:
        """How many cells are behind, in a sentence."""
        behind = [f"{cell.text}, {cell.image}" for cell in self.cells if cell.is_surely_behind]
        maybe = sum(cell.is_behind for cell in self.cells) - len(behind)
        surely = f"significantly behind on {'; '.join(behind)}" if behind else "significantly behind in none"
        chance = f"; below zero within chance in {maybe}" if maybe else ""
        return f"mean gain {signed(self.mean_gain)} points over {len(self.cells)} cells; {surely}{chance}"

    def to_markdown(self) -> str:
        rows = [["text", *self.images]]
        for text in self.texts:
            found = [self.cell(text, image) for image in self.images]
            rows.append([text, *(cell.to_text() if cell else "" for cell in found)])
        headline = (
            "Student minus enlarged teacher, points of word accuracy (95 % interval over words). !: behind; !!: behind "
            "by more than chance."
        )
        return "\n".join([headline, "", *markdown_rows(rows), "", f"- {self.summary}"]) + "\n"

    def to_tree(self) -> dict[str, Any]:
        return {"mean_gain": self.mean_gain, "cells": [asdict(cell) for cell in self.cells]}
