"""Benchmarks: what finished runs made, as readers, and every reader on every set."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from kdltr_core.charset import Protocol
from kdltr_core.config import HIGH_RES_SIZE, DataConfig
from kdltr_core.distributed import DistributedContext
from kdltr_core.evaluation.table import BenchmarkTable, Column, Role, check_judged
from kdltr_core.inference.batched import (
    EVALUATION_BATCH,
    BatchReader,
    KeyedPairs,
    read_set,
    recognizer_reader,
)
from kdltr_core.inference.weights_files import FILES, fetch_recognizer, find_recognizer, load_recognizer
from kdltr_core.recognizers import Recognizer
from kdltr_core.recognizers.decoding import Prediction
from kdltr_core.recognizers.weights import read_metadata
from kdltr_core.train.build import config_of_student, load_teacher, teacher_file, teacher_name

_CACHE_FOLDER = DataConfig().cache_folder


@dataclass(frozen=True)
class BenchmarkReader:
    """Who stands in a column.

    Attributes:
        read: what it predicts of a batch, of which it looks at the column's images.
        recognizer: its name, as in the registry where it is one of ours; "" where it is not known.
        method: how it was trained, or how it reads, as far as is known: "teacher", or a student's objective.
        source: the run or file it comes from, in short.
        parameters: how many; None where that is not known.
    """

    column: Column
    read: BatchReader
    recognizer: str = ""
    method: str = ""
    source: str = ""
    parameters: int | None = None


def open_readers(
    checkpoints: Sequence[str | Path],
    device: torch.device,
    *,
    with_teacher: bool = True,
    note: Callable[[str], None] = lambda sentence: None,
    cache_folder: str | Path = _CACHE_FOLDER,
) -> list[BenchmarkReader]:
    """What runs made: teachers, students, and among the teachers those that the students' configs name.

    Args:
        checkpoints: run folders, student or teacher folders in them, or files such as ``student.safetensors``; paths,
            or URIs in an object store.
        device: where they will read.
        with_teacher: False leaves out the teachers that only the students' configs name.
        note: called with a sentence where such a teacher is left out because it cannot be had.
        cache_folder: where checkpoints and teachers that a URI names are fetched to.

    Returns: teachers first; each teacher stands in two columns.
    Raises: ValueError for what no run made, one given twice, or a teacher's file that does not fit; as ``fetch``.
    """
    files = [find_recognizer(fetch_recognizer(path, cache_folder)).resolve() for path in checkpoints]
    for file in files:
        if files.count(file) > 1:
            raise ValueError(f"{file} is given twice; name each student and teacher once")
    made = {file: load_recognizer(file).to(device).eval() for file in files}
    names = {file: read_metadata(file)["recognizer"] for file in files}
    teachers = {file: module for file, module in made.items() if module.image_size == HIGH_RES_SIZE}
    students = {file: module for file, module in made.items() if file not in teachers}
    for student in students if with_teacher else ():
        try:
            config = config_of_student(student).override({"data.cache_folder": str(cache_folder)})
            file = teacher_file(config).resolve()
        except ValueError as error:
            note(f"without the teacher of {student}: {error}")
            continue
        if file not in teachers:
            teachers[file], names[file] = load_teacher(config, device).eval(), teacher_name(config)

    readers: list[BenchmarkReader] = []

    def add(role: Role, name: str, file: Path, module: Recognizer, method: str) -> None:
        column, parameters = Column(role, name), sum(p.numel() for p in module.parameters())
        read = recognizer_reader(module, column.image, device)
        readers.append(BenchmarkReader(column, read, names[file], method, _source(file), parameters))

    for name, (file, module) in zip(_short_names(list(teachers)), teachers.items(), strict=True):
        add("teacher_high_res", name, file, module, "teacher")
        add("teacher_enlarged", name, file, module, "teacher")
    for name, (file, module) in zip(_short_names(list(students)), students.items(), strict=True):
        add("student_low_res", name, file, module, _method_of(file))
    return readers


def read_benchmarks(
    readers: Sequence[BenchmarkReader],
    packs: Mapping[str, KeyedPairs],
    *,
    batch_size: int = EVALUATION_BATCH,
    protocol: Protocol = "36",
    world: DistributedContext | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> BenchmarkTable:
    """Every reader on every set, each image read by one worker; the same table on every worker.

    Args:
        readers: in printing order.
        packs: by the name of their set.
        batch_size: of each worker.
        progress: called with (predictions made by this worker, predictions it has to make), over all sets and readers.

    Raises: ValueError for no sets, no readers, or a set that has no label to judge by.
    """
    if not readers:
        raise ValueError("there is nobody to read the benchmarks: give a student, or do not leave out the teacher")
    check_judged({name: pack.labels for name, pack in packs.items()}, protocol)
    world = world or DistributedContext()
    total = len(readers) * sum(len(range(world.rank, len(pack), world.size)) for pack in packs.values())
    finished = 0

    def advance(done: int, of: int) -> None:
        nonlocal finished
        if progress is not None:
            progress(finished + done, total)
        finished += of if done == of else 0

    words: dict[str, dict[Column, list[Prediction]]] = {}
    for name, pack in packs.items():
        words[name] = {
            reader.column: read_set(
                reader.read, pack, batch_size=batch_size, set_name=name, world=world, progress=advance
            )
            for reader in readers
        }
    labels, keys = ({name: getattr(p, what) for name, p in packs.items()} for what in ("labels", "keys"))
    return BenchmarkTable.build(labels, words, keys=keys, protocol=protocol)


def _method_of(student: Path) -> str:
    try:
        return config_of_student(student).objective.name
    except ValueError:
        return "not recorded"


def _source(file: Path) -> str:
    """The run that made a file, or the file's own name where it lies elsewhere."""
    folder = file.parent.parent if file.parent.name in FILES else file.parent
    return folder.name if file.name in FILES.values() else file.stem


def _short_names(files: Sequence[Path]) -> list[str]:
    """What tells them apart: nothing for one, their sources for several, paths where those are the same."""
    names = [_source(file) for file in files] if len(files) > 1 else [""] * len(files)
    return names if len(set(names)) == len(names) else [str(file) for file in files]
