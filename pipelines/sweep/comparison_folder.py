"""The folder of a comparison: whose it is, its runs, and what came of them."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

from kdltr_core.config import RunConfig
from kdltr_core.evaluation.significance import read_correct, read_judged
from kdltr_core.files import write_text
from pipelines.run.folder import FINISHED_FILE, RunFolder
from pipelines.run.metrics_log import read_records
from pipelines.sweep.comparison import Comparison, comparison
from pipelines.sweep.comparison_options import CompareOptions
from pipelines.sweep.objectives import Run
from pipelines.sweep.study import Entry, Ledger, plain

_SPEED = "train/images_per_second"


class CompareFolder(RunFolder):
    """``output_folder/name``: config.yaml, comparison.json, runs/, report/comparison.md.

    Objectives and seeds may be added to later; the length of the runs may not change.

    Args:
        runs: all that are asked for.

    Raises: ValueError as ``RunFolder``; if the folder holds something else, or runs of another length.
    """

    mark = "comparison.json"

    def __init__(self, config: RunConfig, options: CompareOptions, runs: Sequence[Run]) -> None:
        if "://" in config.output_folder:
            raise ValueError(f"a comparison needs a folder that all its runs reach, not {config.output_folder}")
        self.options, self.asked = options, runs
        self._length_now = {"num_steps": config.num_steps, "num_epochs": config.num_epochs}
        super().__init__(config)
        self.runs = Ledger(self.path / "runs", {})

    @property
    def has_begun(self) -> bool:
        return any((self.path / "runs").glob("[0-9]*"))

    @property
    def is_finished(self) -> bool:
        """Whether all that is asked for came to its end, and the report is there."""
        try:
            done = json.loads((self.path / FINISHED_FILE).read_text())
        except (OSError, json.JSONDecodeError):
            return False
        return done == self._extent() and self.table.exists()

    @property
    def table(self) -> Path:
        return self.path / "report" / "comparison.md"

    @property
    def artifacts(self) -> list[Path]:
        return [self.path / "config.yaml", self.path / "comparison.json", self.path / "report"]

    @property
    def num_missing(self) -> int:
        """How many of the runs asked for did not come to their end."""
        return sum(self._entry(run) is None for run in self.asked)

    @contextmanager
    def claim(self) -> Iterator[None]:
        with super().claim():
            kept = {**self._extent(), **self._length_now}
            write_text(self.path / "comparison.json", json.dumps(kept, indent=1))
            yield

    def mark_finished(self) -> None:
        write_text(self.path / FINISHED_FILE, json.dumps(self._extent()))

    def result(self) -> Comparison:
        """What the runs asked for came to; objectives with a run that has not ended are left out.

        Raises: ValueError if students were read on different words.
        """
        found: dict[str, Any] = {}
        files: list[Path] = []
        for name in self.options.objectives:
            entries = [self._entry(run) for run in self.asked if run.contender == name]
            ended = [entry for entry in entries if entry is not None]
            found[name] = None
            if len(ended) == len(entries):
                read = [entry.folder / "evaluation" / "predictions.parquet" for entry in ended]
                files += read
                found[name] = (read_correct([*files[:1], *read])[1:], [_speed(entry.folder) for entry in ended])
        sets = read_judged(files[0])["set"].to_pylist() if files else []
        return comparison(found, reference=self.options.against, seeds=self.options.seeds, sets=sets)

    def write_report(self) -> Comparison:
        result = self.result()
        self.table.parent.mkdir(exist_ok=True)
        write_text(self.table, result.to_markdown(f"Objectives compared: {self.config.name}"))
        return result

    def _entry(self, run: Run) -> Entry | None:
        wanted = plain(run.fields)
        done = (e for e in self.runs.ended if e.state == "FINISHED" and e.params == wanted)
        return next(done, None)

    def _extent(self) -> dict[str, Any]:
        options = self.options
        return plain({"objectives": options.objectives, "seeds": options.seeds, "reference": options.against})

    def _changes(self) -> list[str]:
        try:
            earlier = json.loads((self.path / "comparison.json").read_text(encoding="utf-8"))
        except (OSError, json.JSONDecodeError):
            return super()._changes()
        return super()._changes() + [
            f"{name} {earlier.get(name)!r}, now {value!r}"
            for name, value in self._length_now.items()
            if earlier.get(name) != value
        ]


def _speed(folder: Path) -> float:
    """Images per second of training: the median of what was recorded, which a slow start does not spoil."""
    records = read_records(folder / "metrics.jsonl")[0]
    return median([record.metrics[_SPEED] for record in records if _SPEED in record.metrics] or [math.nan])
