"""Benchmarks: what finished runs made, as readers, and every reader on every set."""

from __future__ import annotations

import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from kdltr_core.charset import Protocol
from kdltr_core.config import HIGH_RES_SIZE, DataConfig, RunConfig
from kdltr_core.distributed import DistributedContext
from kdltr_core.evaluation.table import BenchmarkTable, Column, check_judged
from kdltr_core.inference.batched import (
    EVALUATION_BATCH,
    BatchReader,
    KeyedPairs,
    WordBatch,
    read_set,
    read_with_recognizer,
)
from kdltr_core.inference.reader import Reader, load_student
from kdltr_core.inference.weights_files import FILES, fetch_recognizer, find_recognizer, load_recognizer
from kdltr_core.recognizers import Recognizer
from kdltr_core.recognizers.decoding import Prediction
from kdltr_core.recognizers.weights import read_metadata
from kdltr_core.train.build import config_of_student, load_teacher, teacher_file, teacher_name

_CACHE_FOLDER = DataConfig().cache_folder


@dataclass(frozen=True)
class BenchmarkReader:
    """Who stands in a column: a recognizer, which is shown the column's images, or what reads what it likes.

    Attributes:
        recognizer: its name, as in the registry where it is one of ours; "" where it is not known.
        method: how it was trained, or how it reads, as far as is known: "teacher", or a student's objective.
        source: the run or file it comes from, in short.
        enlarges: whether it enlarges its input itself.
    """

    column: Column
    read: Recognizer | BatchReader
    recognizer: str = ""
    method: str = ""
    source: str = ""
    enlarges: bool = False


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
    made = {file: load_recognizer(file).to(device) for file in files}
    teachers = {file: reader for file, reader in made.items() if reader.image_size == HIGH_RES_SIZE}
    students = {file: reader for file, reader in made.items() if file not in teachers}
    named: dict[Path, RunConfig] = {}
    for file in students if with_teacher else ():
        try:
            config = config_of_student(file).override({"data.cache_folder": str(cache_folder)})
            named.setdefault(teacher_file(config).resolve(), config)
        except ValueError as error:
            note(f"without the teacher of {file}: {error}")
    names = {file: read_metadata(file)["recognizer"] for file in files}
    names |= {path: teacher_name(config) for path, config in named.items()}
    teachers |= {path: load_teacher(config, device) for path, config in named.items() if path not in teachers}
    opened: list[BenchmarkReader] = []
    for name, (file, teacher) in zip(_short_names(list(teachers)), teachers.items(), strict=True):
        for role in ("teacher_high_res", "teacher_enlarged"):
            opened.append(BenchmarkReader(Column(role, name), teacher, names[file], "teacher", _source(file)))
    for name, (file, student) in zip(_short_names(list(students)), students.items(), strict=True):
        column = Column("student_low_res", name)
        opened.append(BenchmarkReader(column, student, names[file], _method_of(file), _source(file), student.enlarges))
    return opened


def open_second_opinions(
    checkpoints: Sequence[str | Path], device: torch.device, cache_folder: str | Path = _CACHE_FOLDER
) -> list[BenchmarkReader]:
    """Students that ask their enlarged teachers, the more confident counting; arguments as for ``open_readers``.

    Raises: ValueError as ``load_student``.
    """
    files = [find_recognizer(fetch_recognizer(path, cache_folder)).resolve() for path in checkpoints]
    opened = []
    for name, file in zip(_short_names(files), files, strict=True):
        reader = load_student(file, device, cache_folder=cache_folder, second_opinion=True)
        if reader.second_opinion:

            def read(batch: WordBatch, reader: Reader = reader) -> list[Prediction]:
                return reader.read_pixels(batch.low_res)

            column = Column("student_low_res", f"{name} with second opinion".strip())
            recognizer = read_metadata(file)["recognizer"]
            opened.append(BenchmarkReader(column, read, recognizer, "second opinion", _source(file)))
    return opened


def read_benchmarks(
    readers: Sequence[BenchmarkReader],
    packs: Mapping[str, KeyedPairs],
    *,
    batch_size: int = EVALUATION_BATCH,
    protocol: Protocol = "36",
    precision: str = "float32",
    world: DistributedContext | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> BenchmarkTable:
    """Every reader on every set, each image read by one worker; the same table on every worker.

    Args:
        readers: in printing order.
        packs: by the name of their set.
        batch_size: of each worker.
        precision: as for ``device.autocast``; float32 by default, so that a figure does not depend on the machine.
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
        words[name] = {}
        for reader in readers:
            if isinstance(reader.read, nn.Module):
                words[name][reader.column] = read_with_recognizer(
                    typing.cast(Recognizer, reader.read),
                    pack,
                    reader.column.image,
                    batch_size=batch_size,
                    world=world,
                    precision=precision,
                    progress=advance,
                )
            else:
                words[name][reader.column] = read_set(
                    reader.read, pack, batch_size=batch_size, set_name=name, world=world, progress=advance
                )
    return BenchmarkTable.build(
        {n: p.labels for n, p in packs.items()},
        {n: {c: [word.text for word in read] for c, read in of_set.items()} for n, of_set in words.items()},
        keys={n: p.keys for n, p in packs.items()},
        confidences={n: {c: [w.confidence for w in read] for c, read in of.items()} for n, of in words.items()},
        uncalibrated={
            n: {
                c: before
                for c, read in of.items()
                if (before := [w.uncalibrated for w in read if w.uncalibrated is not None])
            }
            for n, of in words.items()
        },
        protocol=protocol,
    )


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
