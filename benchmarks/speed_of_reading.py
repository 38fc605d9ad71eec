"""How fast a student reads, beside RapidOCR's recognizer:  python -m benchmarks.speed_of_reading STUDENT"""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import cycle
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import tyro

from benchmarks.candidates import TITLES, CandidateName, Read, open_candidate
from benchmarks.speed_table import Measured, SpeedTable, tell_speeds
from benchmarks.stopwatch import CallTimes, interleaved, machine
from kdltr_core.data.images import open_image
from kdltr_core.data.lmdb_store import LmdbStore
from kdltr_core.data.pack import Pack
from kdltr_core.data.roots import benchmark_folders, open_benchmarks
from kdltr_core.inference.weights_files import find_recognizer, load_recognizer
from kdltr_core.recognizers import Recognizer
from pipelines.exporting.options import ExportOptions
from pipelines.exporting.steps import quantise, write_checked
from pipelines.report.options import BenchmarkOptions
from pipelines.run.command_line import answer_mistakes
from pipelines.run.progress import progress_bar, say


@dataclass(frozen=True)
class SpeedOptions:
    """Who reads, which crops, and how often. All read the same crops, as they are, pre-processing included."""

    student: Annotated[str, tyro.conf.Positional]
    """run folder, student folder in it, or .safetensors file"""
    data: BenchmarkOptions = field(default_factory=BenchmarkOptions)
    candidates: tuple[CandidateName, ...] = ("rapidocr", "pytorch", "onnx", "int8")
    """the others are compared with the first"""
    batch_sizes: tuple[int, ...] = (1, 64)
    """crops in a call"""
    num_threads: tuple[int, ...] = (1, 2)
    """of each candidate in a call"""
    num_crops: int = 320
    """evenly spaced over the benchmarks; each candidate reads each of them, with every batch size"""
    output: Path = Path("runs/speed-of-reading")
    """folder for reading.json and reading.md"""


def main(options: SpeedOptions) -> int:
    if not options.candidates or min(*options.batch_sizes, *options.num_threads, options.num_crops) < 1:
        raise ValueError("give a candidate; batch sizes, numbers of threads and of crops must each be at least 1")
    export = ExportOptions(options.student, data=options.data, max_loss=100.0)
    packs = open_benchmarks(export.benchmarks(), progress=progress_bar("preparing words"))
    crops = list(_crops(export, packs, options.num_crops))
    student = find_recognizer(options.student)
    recognizer = load_recognizer(student)
    tables: list[SpeedTable] = []
    with tempfile.TemporaryDirectory(prefix="kdltr-speed-") as scratch:
        graphs = _write_graphs(Path(scratch), options, export, student, recognizer, packs)
        for num_threads in options.num_threads:
            torch.set_num_threads(num_threads)
            for batch_size in options.batch_sizes:
                say(f"reading {batch_size} at a time, threads: {num_threads}")
                readers = {
                    TITLES[name]: open_candidate(name, recognizer, graphs, num_threads, batch_size)
                    for name in options.candidates
                }
                times = _measure(readers, crops, batch_size)
                rows = [Measured(title, each, batch_size) for title, each in times.items()]
                tables.append(SpeedTable(f"Batch {batch_size}, threads: {num_threads}", "images", rows))
    about = f"# Speed of reading\n\n{len(crops)} crops of {', '.join(packs)}."
    tell_speeds(options.output, "reading", about, machine(torch.device("cpu")), tables)
    return 0


def _crops(export: ExportOptions, packs: dict[str, Pack], num_crops: int) -> Iterator[np.ndarray]:
    """(H, W, 3) uint8, in their own sizes."""
    total = sum(map(len, packs.values()))
    for name, folder in benchmark_folders(export.benchmarks()).items():
        store, pack = LmdbStore.open(folder), packs[name]
        for row in np.linspace(0, len(pack) - 1, max(1, round(num_crops * len(pack) / total))).astype(int):
            yield np.asarray(open_image(store.image(int(pack.keys[row].rpartition("-")[2]))))


def _write_graphs(
    folder: Path,
    options: SpeedOptions,
    export: ExportOptions,
    student: Path,
    recognizer: Recognizer,
    packs: dict[str, Pack],
) -> dict[str, Path]:
    graphs = {name: folder / f"{name}.onnx" for name in ("onnx", "int8")}
    if {"onnx", "int8"} & set(options.candidates):
        write_checked(graphs["onnx"], student, recognizer, packs)
    if "int8" in options.candidates:
        shutil.copyfile(graphs["onnx"], graphs["int8"])
        quantise(graphs["int8"], export, packs)
    return graphs


def _measure(readers: dict[str, Read], crops: Sequence[np.ndarray], batch_size: int) -> dict[str, CallTimes]:
    """Each call reads other crops, and the same as every other reader's call of that round."""
    rows = np.resize(np.random.default_rng(0).permutation(len(crops)), -(-len(crops) // batch_size) * batch_size)
    batches = [[crops[row] for row in part] for part in rows.reshape(-1, batch_size)]
    queues = {title: cycle(batches) for title in readers}
    actions = {title: lambda read=read, title=title: read(next(queues[title])) for title, read in readers.items()}
    return interleaved(actions, max(len(batches), 4))


if __name__ == "__main__":
    options = tyro.cli(SpeedOptions, prog="python -m benchmarks.speed_of_reading", description=SpeedOptions.__doc__)
    sys.exit(answer_mistakes(lambda: main(options)))
