"""Contents of a report, as figures: counted from every prediction, and measured beside them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from itertools import combinations
from typing import Any

from kdltr_core.evaluation.benchmarks import BenchmarkReader
from kdltr_core.evaluation.calibration import Calibration, calibrate
from kdltr_core.evaluation.harm import HarmMatrix
from kdltr_core.evaluation.table import BenchmarkTable, Column, PairedComparison, WordResult
from pipelines.report.analysis import Confusions, count_confusions


@dataclass(frozen=True)
class ReportContents:
    """What one evaluation found.

    Attributes:
        title: of the report.
        made: when, and by which version of the code.
        readers: of the table's columns, in their order.
        harm: of the students, where there is an enlarged teacher to hold them against.
    """

    table: BenchmarkTable
    title: str
    made: str = ""
    readers: Sequence[BenchmarkReader] = ()
    harm: Mapping[Column, HarmMatrix] = field(default_factory=dict)

    @property
    def columns(self) -> tuple[Column, ...]:
        return self.table.columns

    @property
    def words(self) -> Sequence[WordResult]:
        """Those that are judged."""
        return self.table.judged

    @cached_property
    def pairs(self) -> list[PairedComparison]:
        """The paired test of every two readers."""
        return [self.table.compare(*pair) for pair in combinations(self.columns, 2)]

    @cached_property
    def confusions(self) -> dict[Column, Confusions]:
        return {
            c: count_confusions(((w.label, w.predictions[c].text) for w in self.words), self.table.protocol)
            for c in self.columns
        }

    @cached_property
    def calibrations(self) -> dict[Column, Calibration]:
        return {
            column: calibrate([w.predictions[column].confidence for w in self.words], right)
            for column, right in self.table.correct.items()
        }

    @cached_property
    def uncalibrated(self) -> dict[Column, Calibration]:
        """Of the readers that have a temperature: as they were without it."""
        found = {}
        for column, right in self.table.correct.items():
            before = [w.predictions[column].uncalibrated for w in self.words]
            if values := [value for value in before if value is not None]:
                found[column] = calibrate(values, right)
        return found

    def to_tree(self) -> dict[str, Any]:
        """Everything but predictions and pictures; accuracies in [0, 1]."""
        return {
            "title": self.title,
            "made": self.made,
            "table": self.table.to_tree(),
            "readers": {
                r.column.key: {
                    "recognizer": r.recognizer,
                    "method": r.method,
                    "parameters": r.parameters,
                }
                for r in self.readers
            },
            "mcnemar_all_pairs": [pair.to_tree() for pair in self.pairs],
            "harm": {c.key: matrix.to_tree() for c, matrix in self.harm.items()},
            "confusions": {
                c.key: {
                    "words_aligned": found.num_near,
                    "words_too_far": found.num_far,
                    "counts": [{"label": a, "read": b, "count": n} for (a, b), n in found.counts.most_common(200)],
                }
                for c, found in self.confusions.items()
            },
            "calibration": {c.key: asdict(found) for c, found in self.calibrations.items()},
            "uncalibrated": {c.key: asdict(found) for c, found in self.uncalibrated.items()},
        }
