"""From readers and a finished table to the report's files, and to MLflow."""

from __future__ import annotations

import datetime
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from kdltr_core.config import DataConfig
from kdltr_core.data.held_out_texts import IMAGES, TEXTS
from kdltr_core.data.pack import Pack
from kdltr_core.evaluation.benchmarks import BenchmarkReader
from kdltr_core.evaluation.harm import compared_readers, measure_harm
from kdltr_core.evaluation.table import BenchmarkTable
from kdltr_core.inference.batched import WordBatch
from pipelines.report.contents import ReportContents
from pipelines.report.harm_files import MATRIX_FILES, write_matrix
from pipelines.report.options import EvaluateOptions
from pipelines.report.page import write_page_files
from pipelines.report.summary import headline_metrics, result_markdown, trained_column
from pipelines.run.description import Description, git_commit, noted, testing_notes
from pipelines.run.metrics_log import MetricsLog
from pipelines.run.progress import progress_bar, say
from pipelines.run.tracking import Tracker

_TRIED_WORDS = 4


def report(
    options: EvaluateOptions,
    readers: Sequence[BenchmarkReader],
    packs: Mapping[str, Pack],
    data: DataConfig,
    table: BenchmarkTable,
) -> None:
    """Measures what a table does not hold, writes the report's files, and hands them to MLflow.

    Args:
        readers: of the table's columns.
        packs: what they read, as ``data`` names it.
    """
    folder, title = Path(options.report), _title_of(options.name, readers)
    tracker = _begin_tracking(options, title, data, packs)
    harm = measure_harm(
        readers, table, data, options.harm_words, batch_size=options.batch_size, progress=progress_bar("harm matrix")
    )
    matrices = "\n".join(f"{column.title}: {matrix.to_markdown()}" for column, matrix in harm.items())
    print(matrices, flush=True)
    contents = ReportContents(
        table,
        title=title,
        made=f"{datetime.date.today()}, commit {git_commit()[:10]}",
        readers=readers,
        harm=harm,
    )
    files = write_page_files(folder, contents, packs)
    for matrix in list(harm.values())[:1]:
        write_matrix(folder, matrix)
        files += (folder / name for name in MATRIX_FILES)
    MetricsLog(folder / "metrics.jsonl").record(0, _metrics(contents))
    tracker.end("FINISHED", files, noted(f"{result_markdown(table)}\n{matrices}", "evaluate"))


def workload(options: EvaluateOptions, readers: Sequence[BenchmarkReader], packs: Mapping[str, Pack]) -> str:
    """How many predictions a report takes and how long at most, in a sentence for whoever waits for it.

    At most, for it goes by a few words, and most are read in larger batches.
    """
    num_words = sum(map(len, packs.values()))
    parts = {
        "the table": len(readers) * num_words,
        "the harm matrix": len(compared_readers(readers)) * options.harm_words * len(TEXTS) * len(IMAGES),
    }
    name, pack = next(iter(packs.items()))
    indices = np.arange(min(_TRIED_WORDS, len(pack)))
    batch = WordBatch(name, pack, indices, *pack.gather(indices))
    for reader in readers:  # the first time takes longer
        reader.read(batch)
    started = time.perf_counter()
    for reader in readers:
        reader.read(batch)
    seconds = (time.perf_counter() - started) / (len(readers) * len(indices))
    total = sum(parts.values())
    minutes = max(1, round(total * seconds / 60))
    return f"{total:,} predictions, up to {minutes} min: " + ", ".join(f"{n:,} for {what}" for what, n in parts.items())


def _title_of(name: str, readers: Sequence[BenchmarkReader]) -> str:
    """The name that was given; else the students' runs, or what else reads."""
    students = [r.source for r in readers if r.column.role == "student_low_res"]
    sources = list(dict.fromkeys(students or [r.source for r in readers if r.source]))
    return name.strip() or f"Evaluation of {', '.join(sources)}"


def _begin_tracking(options: EvaluateOptions, title: str, data: DataConfig, packs: Mapping[str, Pack]) -> Tracker:
    """A new run in MLflow, even where an earlier report lay in the folder."""
    folder = Path(options.report)
    for left_over in ("tracking.json", "metrics.jsonl"):
        (folder / left_over).unlink(missing_ok=True)
    tracker = Tracker(folder, options.tracking_uri, options.experiment, say)
    parameters: dict[str, Any] = {k: v for k, v in asdict(options).items() if k not in ("data", "tracking_uri")}
    parameters |= {f"data.{name}": value for name, value in asdict(options.data).items()}
    tags = {"kdltr.kind": "evaluation", "mlflow.source.name": "kdltr evaluate", "mlflow.source.type": "LOCAL"}
    tracker.begin(Description(title, parameters, tags, testing=testing_notes(data, packs)))
    return tracker


def _metrics(contents: ReportContents) -> dict[str, float]:
    """Of the first student, in per cent: few, as the page and its table have all the others."""
    own = trained_column(contents.table)
    found = headline_metrics(contents.table)
    found["calibration_error"] = 100 * contents.calibrations[own].error
    return found | (contents.harm[own].metrics if own in contents.harm else {})
