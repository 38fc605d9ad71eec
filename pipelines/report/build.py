"""From readers and a finished table to the report's files, and to MLflow."""

from __future__ import annotations

import datetime
import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import nn

from kdltr_core.config import DataConfig
from kdltr_core.data.pack import Pack, Pairs
from kdltr_core.evaluation.benchmarks import BenchmarkReader
from kdltr_core.evaluation.harm import measure_harm
from kdltr_core.evaluation.table import BenchmarkTable, Column
from kdltr_core.inference.batched import BatchReader, WordBatch, recognizer_reader
from kdltr_core.recognizers import Recognizer
from pipelines.report.analysis import AttendedWord, attended_words
from pipelines.report.contents import ReaderNote, ReportContents
from pipelines.report.examples import in_fixed_order
from pipelines.report.harm_files import MATRIX_FILES, write_matrix
from pipelines.report.options import EvaluateOptions
from pipelines.report.page import write_page_files
from pipelines.report.sizes import WORD_LENGTHS, recognizer_sizes
from pipelines.report.summary import headline_metrics, result_markdown, trained_column
from pipelines.run.checks import git_commit, testing_notes
from pipelines.run.metrics_log import MetricsLog
from pipelines.run.progress import progress_bar, say
from pipelines.run.tracking import Description, Tracker, noted

_ATTENDED_WORDS = 4


@dataclass(frozen=True)
class Evaluation:
    """What evaluate.py has when the benchmarks are read; ``sizes``: (height, width) of images as the packs' rows."""

    options: EvaluateOptions
    readers: Sequence[BenchmarkReader]
    packs: Mapping[str, Pack]
    data: DataConfig
    sizes: Mapping[str, Sequence[tuple[int, int]]]
    table: BenchmarkTable
    device: torch.device

    @property
    def title(self) -> str:
        """The name that was given; else the students' runs, or what else reads."""
        students = [r.source for r in self.readers if r.column.role == "student_low_res"]
        sources = list(dict.fromkeys(students or [r.source for r in self.readers if r.source]))
        rest = f" and {len(sources) - 3} more" if len(sources) > 3 else ""
        return self.options.name.strip() or f"Evaluation of {', '.join(sources[:3])}{rest}"


def report(evaluation: Evaluation) -> None:
    """Measures what a table does not hold, writes the report's files, and hands them to MLflow."""
    folder = Path(evaluation.options.report)
    if any(reader.method.startswith("ONNX") for reader in evaluation.readers):
        say("attention is shown for runs and their teachers only; ONNX files do not export it")
    tracker, metrics_log = _begin_tracking(evaluation, folder)
    harm = measure_harm(
        evaluation.readers,
        evaluation.table,
        evaluation.data,
        evaluation.options.harm_words,
        batch_size=evaluation.options.batch_size,
        progress=progress_bar("harm matrix"),
    )
    matrices = "\n".join(f"{column.title}: {matrix.to_markdown()}" for column, matrix in harm.items())
    print(matrices, flush=True)
    milliseconds, times_note = _times(evaluation)
    contents = ReportContents(
        evaluation.table,
        title=evaluation.title,
        made=f"{datetime.date.today()}, commit {git_commit()[:10]}",
        notes=_notes(evaluation, milliseconds),
        heights=[evaluation.sizes[w.set_name][w.row][0] for w in evaluation.table.judged],
        harm=harm,
        attended=_attended(evaluation),
        times_note=times_note,
    )
    files = write_page_files(folder, contents, evaluation.packs)
    for matrix in list(harm.values())[:1]:
        write_matrix(folder, matrix)
        files += (folder / name for name in MATRIX_FILES)
    metrics_log.record(0, _metrics(contents))
    tracker.end("FINISHED", files, noted(f"{result_markdown(evaluation.table)}\n{matrices}", "evaluate"))


def measure_times(
    readers: Mapping[Column, BatchReader],
    packs: Mapping[str, Pairs],
    num_words: int,
    *,
    progress: Callable[[int, int], None] | None = None,
) -> dict[Column, float]:
    """Median milliseconds a word, from uint8 pixels to text, one word at a time; the readers are interleaved.

    So all of them meet what else the machine does. The first word of each reader is read twice, and its first time is
    not counted.

    Args:
        num_words: a seeded sample of all; fewer where there are fewer.
    """
    words = [(name, row) for name, pack in packs.items() for row in range(len(pack))]
    words = random.Random(0).sample(words, min(num_words, len(words)))
    seconds: dict[Column, list[float]] = {column: [] for column in readers}
    for done, (name, row) in enumerate(words):
        indices = np.array([row])
        batch = WordBatch(name, packs[name], indices, *packs[name].gather(indices))
        for column, read in readers.items():
            if not seconds[column]:
                read(batch)
            started = time.perf_counter()
            read(batch)
            seconds[column].append(time.perf_counter() - started)
        if progress is not None:
            progress(done + 1, len(words))
    return {column: 1000 * float(np.median(taken)) for column, taken in seconds.items()}


def _begin_tracking(evaluation: Evaluation, folder: Path) -> tuple[Tracker, MetricsLog]:
    """A new run in MLflow, even where an earlier report lay in the folder."""
    options = evaluation.options
    for left_over in ("tracking.json", "metrics.jsonl"):
        (folder / left_over).unlink(missing_ok=True)
    tracker = Tracker(folder, options.tracking_uri, options.experiment, say)
    datasets = testing_notes(evaluation.data, evaluation.packs)
    parameters: dict[str, Any] = {k: v for k, v in asdict(options).items() if k not in ("data", "tracking_uri")}
    parameters |= {f"data.{name}": value for name, value in asdict(options.data).items()}
    tracker.begin(
        Description(
            evaluation.title,
            parameters,
            {"kdltr.kind": "evaluation", "mlflow.source.name": "kdltr evaluate", "mlflow.source.type": "LOCAL"},
            datasets,
        )
    )
    return tracker, MetricsLog(folder / "metrics.jsonl")


def _metrics(contents: ReportContents) -> dict[str, float]:
    """Of the first student, in per cent and milliseconds: few, as the page and its table have all the others."""
    own = trained_column(contents.table)
    found = headline_metrics(contents.table)
    if (milliseconds := contents.note(own).milliseconds) is not None:
        found["milliseconds_a_word"] = milliseconds
    if own in contents.calibrations:
        found["calibration_error"] = 100 * contents.calibrations[own].error
    if own in contents.harm:
        found |= contents.harm[own].metrics
    return found


def _times(evaluation: Evaluation) -> tuple[dict[Column, float], str]:
    """Milliseconds by reader, and how they were taken."""
    options, device = evaluation.options, evaluation.device
    if not options.time_words:
        return {}, ""
    readers = _batch_readers(evaluation.readers, device)
    taken = measure_times(readers, evaluation.packs, options.time_words, progress=progress_bar("times"))
    count = min(options.time_words, sum(map(len, evaluation.packs.values())))
    threads = "1 CPU thread" if torch.get_num_threads() == 1 else f"{torch.get_num_threads()} CPU threads"
    where = threads if device.type == "cpu" else torch.cuda.get_device_name(device)
    return taken, (
        f"Times: median of {count} words, one at a time, from uint8 pixels to text, the readers interleaved; "
        f"recognizers on {where}, RapidOCR and ONNX files on {threads}."
    )


def _batch_readers(readers: Sequence[BenchmarkReader], device: torch.device) -> dict[Column, BatchReader]:
    found: dict[Column, BatchReader] = {}
    for reader in readers:
        if isinstance(reader.read, nn.Module):
            module = cast(Recognizer, reader.read).eval()
            found[reader.column] = recognizer_reader(module, reader.column.image, device)
        else:
            found[reader.column] = reader.read
    return found


def _notes(evaluation: Evaluation, milliseconds: Mapping[Column, float]) -> dict[Column, ReaderNote]:
    sizes = {(row["recognizer"], row["role"]): row for row in recognizer_sizes()}
    notes = {}
    for reader in evaluation.readers:
        # A student that enlarges is as large as its teacher, and the others have sizes of their own.
        is_published = reader.column.role == "student_low_res" and not reader.enlarges
        role = "student" if is_published else "teacher"
        size = sizes.get((reader.recognizer, role))
        parameters, products = (size["parameters"], size["reading"][str(min(WORD_LENGTHS))]) if size else (None, None)
        time_taken = milliseconds.get(reader.column)
        notes[reader.column] = ReaderNote(reader.recognizer, reader.method, parameters, products, time_taken)
    return notes


def _attended(evaluation: Evaluation) -> dict[Column, list[tuple[str, AttendedWord]]]:
    """The same words for all recognizers of one size; what an ONNX file attends to is not known."""
    words = in_fixed_order(evaluation.table.judged, evaluation.options.protocol)[:_ATTENDED_WORDS]
    pairs = [evaluation.packs[w.set_name].gather(np.array([w.row])) for w in words]
    attended: dict[Column, list[tuple[str, AttendedWord]]] = {}
    for reader in evaluation.readers:
        if isinstance(reader.read, nn.Module) and reader.column.image != "enlarged":
            images = torch.cat([pair[0 if reader.column.image == "high_res" else 1] for pair in pairs])
            if shown := attended_words(cast(Recognizer, reader.read), images):
                attended[reader.column] = [(w.label, word) for w, word in zip(words, shown, strict=True)]
    return attended
