"""From opened readers and a finished table to the report, and to MLflow."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from kdltr_core.data.native_images import NativeImages
from kdltr_core.data.pack import Pack
from kdltr_core.evaluation.benchmarks import OpenedReader
from kdltr_core.evaluation.complexity import WORD_LENGTHS, Complexity, describe
from kdltr_core.evaluation.corruptions import sample_words
from kdltr_core.evaluation.readings import Column
from kdltr_core.evaluation.robustness import RobustnessCurves, measure_robustness
from kdltr_core.evaluation.table import BenchmarkTable
from kdltr_core.inference.batched import BatchReader, recognizer_reader
from kdltr_core.recognizers import Recognizer
from pipelines.prediction.onnx_columns import OnnxColumn
from pipelines.report.attention import AttendedWord, attend
from pipelines.report.contents import Evidence, ReaderNote
from pipelines.report.examples import in_fixed_order
from pipelines.report.figures import write_robustness
from pipelines.report.options import EvaluateOptions
from pipelines.report.page import write_report
from pipelines.report.times import measure_times
from pipelines.run.metrics_log import MetricsLog
from pipelines.run.progress import progress_bar, say
from pipelines.run.tracking import DatasetNote, Description, Tracker

_ATTENDED_WORDS = 4


@dataclass(frozen=True)
class Evaluated:
    """What evaluate.py has when the benchmarks are read.

    Attributes:
        opened: the recognizers among the readers, with what is known of them.
        exported: the ONNX files among the readers; they read on the CPU, and have no attention to show.
        readers: all of them.
        native: the sources of the packs.
    """

    options: EvaluateOptions
    opened: Sequence[OpenedReader]
    exported: Sequence[OnnxColumn]
    readers: Mapping[Column, Recognizer | BatchReader]
    packs: Mapping[str, Pack]
    native: NativeImages
    table: BenchmarkTable
    device: torch.device


def report(evaluated: Evaluated) -> None:
    """Measures what a table does not hold, writes the report's files, and hands them to MLflow."""
    options, folder = evaluated.options, Path(evaluated.options.report)
    if evaluated.exported:
        say("what an ONNX file attends to is not known; the report shows where runs and their teachers look")
    tracker, metrics_log = _begin_tracking(evaluated, folder)
    curves = _curves(evaluated)
    if curves is not None:
        write_robustness(curves, folder)
    milliseconds, times_note = _times(evaluated)
    sizes = {name: evaluated.native.sizes(name, pack.keys) for name, pack in evaluated.packs.items()}
    evidence = Evidence(
        evaluated.table,
        title=options.name,
        notes=_notes(evaluated, milliseconds),
        heights=[sizes[r.set_name][r.row][0] for r in evaluated.table.readings],
        curves=curves,
        attended=_attended(evaluated),
        times_note=times_note,
    )
    files = write_report(folder, evidence, evaluated.packs)
    if curves is not None:
        files += [folder / "curves.json", folder / "curves.png"]
    metrics_log.record(0, _metrics(evidence))
    tracker.end("FINISHED", files)


def _begin_tracking(evaluated: Evaluated, folder: Path) -> tuple[Tracker, MetricsLog]:
    """A new run in MLflow, even where an earlier report lay in the folder."""
    options = evaluated.options
    for left_over in ("tracking.json", "metrics.jsonl"):
        (folder / left_over).unlink(missing_ok=True)
    tracker = Tracker(folder, options.tracking_uri, options.experiment, say)
    datasets = [
        DatasetNote(name, str(pack.path), "testing", pack.fingerprint, {"num_pairs": len(pack)})
        for name, pack in evaluated.packs.items()
    ]
    parameters: dict[str, Any] = {k: v for k, v in asdict(options).items() if k not in ("data", "tracking_uri")}
    parameters |= {f"data.{name}": value for name, value in asdict(options.data).items()}
    tracker.begin(Description(options.name, parameters, {"kdltr.kind": "evaluation"}, datasets))
    return tracker, MetricsLog(folder / "metrics.jsonl")


def _metrics(evidence: Evidence) -> dict[str, float]:
    """In per cent and milliseconds, by set and reader."""
    table = evidence.table
    metrics = {
        f"benchmark/{name}/{column.key}": 100 * cell.accuracy
        for name, cells in table.cells.items()
        for column, cell in cells.items()
    }
    for column in table.columns:
        metrics[f"benchmark/weighted_mean/{column.key}"] = 100 * table.weighted(column)[0]
        if (milliseconds := evidence.note(column).milliseconds) is not None:
            metrics[f"milliseconds_a_word/{column.key}"] = milliseconds
        if column in evidence.calibrations:
            metrics[f"calibration_error/{column.key}"] = 100 * evidence.calibrations[column].error
    return metrics


def _curves(evaluated: Evaluated) -> RobustnessCurves | None:
    options = evaluated.options
    if not options.curve_words or all(column.image == "high_res" for column in evaluated.readers):
        return None
    return measure_robustness(
        evaluated.readers,
        sample_words(evaluated.packs, options.curve_words),
        batch_size=options.batch_size,
        num_words_in_all=evaluated.table.num_words,
        native=evaluated.native,
        protocol=options.protocol,
        precision="float32",
        progress=progress_bar("robustness"),
    )


def _times(evaluated: Evaluated) -> tuple[dict[Column, float], str]:
    options, device = evaluated.options, evaluated.device
    if not options.time_words:
        return {}, ""
    modules = {reader.column: reader.module for reader in evaluated.opened}
    readers = {
        column: recognizer_reader(modules[column].eval(), column.image, device) if column in modules else reader
        for column, reader in evaluated.readers.items()
    }
    words = sample_words(evaluated.packs, options.time_words, seed=1)
    taken = measure_times(readers, words, progress=progress_bar("times"))
    count = sum(map(len, words.values()))
    threads = "1 CPU thread" if torch.get_num_threads() == 1 else f"{torch.get_num_threads()} CPU threads"
    where = threads if device.type == "cpu" else torch.cuda.get_device_name(device)
    return taken, (
        f"Times: median of {count} words, one at a time, from uint8 pixels to text, the readers taking turns at every "
        f"word; recognizers on {where}, RapidOCR and ONNX files on {threads}."
    )


def _notes(evaluated: Evaluated, milliseconds: Mapping[Column, float]) -> dict[Column, ReaderNote]:
    counted: dict[tuple[str, str], Complexity] = {}
    notes = {}
    described: list[OpenedReader | OnnxColumn] = [*evaluated.opened, *evaluated.exported]
    for reader in described:
        role = "student" if reader.column.role == "student_low_res" else "teacher"
        if (reader.recognizer, role) not in counted:
            counted[reader.recognizer, role] = describe(reader.recognizer, role)  # type: ignore[arg-type]
        complexity = counted[reader.recognizer, role]
        notes[reader.column] = ReaderNote(
            reader.recognizer,
            reader.method,
            complexity.parameters,
            complexity.reading[min(WORD_LENGTHS)],
            milliseconds.get(reader.column),
        )
    for column in evaluated.readers:
        if column.role == "two_stage":
            how = f"{column.name}, then RapidOCR"
            notes[column] = ReaderNote("PP-OCR", how, None, None, milliseconds.get(column))
    return notes


def _attended(evaluated: Evaluated) -> dict[Column, list[tuple[str, AttendedWord]]]:
    """The same words for all readers of one size."""
    readings = in_fixed_order(evaluated.table.readings, evaluated.options.protocol)[:_ATTENDED_WORDS]
    pairs = [evaluated.packs[r.set_name].gather(np.array([r.row])) for r in readings]
    attended: dict[Column, list[tuple[str, AttendedWord]]] = {}
    for reader in evaluated.opened:
        if reader.column.image != "enlarged":
            side = 0 if reader.column.image == "high_res" else 1
            words = attend(reader.module, torch.cat([pair[side] for pair in pairs]))
            if words:
                attended[reader.column] = [(r.label, word) for r, word in zip(readings, words, strict=True)]
    return attended
