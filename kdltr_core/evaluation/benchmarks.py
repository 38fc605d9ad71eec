"""Readers and benchmarks in, a table and its files out."""

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
from kdltr_core.evaluation.readings import Column
from kdltr_core.evaluation.table import BenchmarkTable
from kdltr_core.inference.batched import BatchReader, KeyedPairs, read_set, read_with_recognizer
from kdltr_core.inference.weights_files import FILES, fetch_recognizer, find_recognizer, load_recognizer
from kdltr_core.recognizers import Recognizer
from kdltr_core.recognizers.decoding import Prediction
from kdltr_core.recognizers.weights import read_metadata
from kdltr_core.train.build import load_teacher, teacher_file, teacher_name

_CACHE_FOLDER = DataConfig().cache_folder


@dataclass(frozen=True)
class OpenedReader:
    """A teacher or student that stands in a column.

    Attributes:
        recognizer: its name, as in the registry.
        method: how it was trained, as far as its file says: "teacher", or the objective of a student's config.
    """

    column: Column
    module: Recognizer
    recognizer: str
    method: str


def open_readers(
    checkpoints: Sequence[str | Path],
    device: torch.device,
    *,
    with_teacher: bool = True,
    note: Callable[[str], None] = lambda sentence: None,
    cache_folder: str | Path = _CACHE_FOLDER,
) -> dict[Column, Recognizer]:
    """What runs made: teachers, students, and among the teachers those that the students' configs name.

    Args:
        checkpoints: run folders, student or teacher folders in them, or files such as ``student.safetensors``; paths,
            or URIs in an object store.
        device: where they will read.
        with_teacher: False leaves out the teachers that only the students' configs name.
        note: called with a sentence where such a teacher is left out because it cannot be had.
        cache_folder: where checkpoints and teachers that a URI names are fetched to.

    Returns: by column, teachers first; each teacher stands in two.
    Raises: ValueError for what no run made, one given twice, or a teacher's file that does not fit; as ``fetch``.
    """
    opened = open_described(checkpoints, device, with_teacher=with_teacher, note=note, cache_folder=cache_folder)
    return {reader.column: reader.module for reader in opened}


def open_described(
    checkpoints: Sequence[str | Path],
    device: torch.device,
    *,
    with_teacher: bool = True,
    note: Callable[[str], None] = lambda sentence: None,
    cache_folder: str | Path = _CACHE_FOLDER,
) -> list[OpenedReader]:
    """As ``open_readers``, with what the files say of each."""
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
            config = _config_of(file).override({"data.cache_folder": str(cache_folder)})
            named.setdefault(teacher_file(config).resolve(), config)
        except ValueError as error:
            note(f"without the teacher of {file}: {error}")
    names = {file: read_metadata(file)["recognizer"] for file in files}
    names |= {path: teacher_name(config) for path, config in named.items()}
    teachers |= {path: load_teacher(config, device) for path, config in named.items() if path not in teachers}
    opened: list[OpenedReader] = []
    for name, (file, teacher) in zip(_short_names(list(teachers)), teachers.items(), strict=True):
        for role in ("teacher_high_res", "teacher_enlarged"):
            opened.append(OpenedReader(Column(role, name), teacher, names[file], "teacher"))
    for name, (file, student) in zip(_short_names(list(students)), students.items(), strict=True):
        opened.append(OpenedReader(Column("student_low_res", name), student, names[file], _method_of(file)))
    return opened


def read_benchmarks(
    readers: Mapping[Column, Recognizer | BatchReader],
    packs: Mapping[str, KeyedPairs],
    *,
    batch_size: int,
    protocol: Protocol = "36",
    precision: str = "float32",
    world: DistributedContext | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> BenchmarkTable:
    """Every reader on every set, each image read by one worker; the same table on every worker.

    Args:
        readers: by column, in printing order; a teacher may stand in two. What is no recognizer reads what it likes.
        packs: by the name of their set.
        batch_size: of each worker.
        precision: as for ``device.autocast``; float32 by default, so that a figure does not depend on the machine.
        progress: called with (readings done by this worker, readings it has to do), over all sets and readers.

    Raises: ValueError for no sets or no readers.
    """
    if not readers:
        raise ValueError("there is nobody to read the benchmarks: give a student, or do not leave out the teacher")
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
        for column, reader in readers.items():
            if isinstance(reader, nn.Module):
                words[name][column] = read_with_recognizer(
                    typing.cast(Recognizer, reader),
                    pack,
                    column.image,
                    batch_size=batch_size,
                    world=world,
                    precision=precision,
                    progress=advance,
                )
            else:
                words[name][column] = read_set(
                    reader, pack, batch_size=batch_size, set_name=name, world=world, progress=advance
                )
    return BenchmarkTable.build(
        {n: p.labels for n, p in packs.items()},
        {n: {c: [word.text for word in read] for c, read in by_column.items()} for n, by_column in words.items()},
        keys={n: p.keys for n, p in packs.items()},
        confidences={
            n: {c: [word.confidence for word in read] for c, read in by_column.items()}
            for n, by_column in words.items()
        },
        protocol=protocol,
    )


def _config_of(student: Path) -> RunConfig:
    path = student.with_name("config.yaml")
    if not path.is_file():
        raise ValueError("there is no config.yaml beside it, which would name its teacher")
    return RunConfig.from_yaml(path)


def _method_of(student: Path) -> str:
    try:
        return _config_of(student).objective.name
    except ValueError:
        return "not recorded"


def _short_names(files: Sequence[Path]) -> list[str]:
    """What tells them apart: nothing for one, the runs' names for several, paths where those are the same."""
    if len(files) == 1:
        return [""]
    names = []
    for file in files:
        folder = file.parent.parent if file.parent.name in FILES else file.parent
        names.append(folder.name if file.name in FILES.values() else file.stem)
    return names if len(set(names)) == len(names) else [str(file) for file in files]
