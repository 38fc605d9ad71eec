"""What can be found wrong with a run before anything is decoded or trained."""

from __future__ import annotations

import getpass
import hashlib
import os
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Literal

import kdltr_core
import pipelines
import tune_spaces
from kdltr_core.config import DataConfig, RunConfig
from kdltr_core.data.dataset import Datasets
from kdltr_core.data.pack import Pack
from kdltr_core.data.roots import benchmark_folders
from kdltr_core.evaluation.table import check_judged
from kdltr_core.remote import LMDB_FILE, check_there, fetch, is_uri, public, under
from kdltr_core.train.build import start_file, teacher_file
from kdltr_core.train.distiller import needs_teacher
from pipelines.run.folder import RunFolder
from pipelines.run.tracking import DatasetNote, Description, Status, Tracker, noted

VALIDATED_ON_READINGS = (
    "Validation: no word has a label, so word accuracy on the held-out pictures is agreement with what the teacher "
    "reads in them at high resolution: enough to choose the best step by, but silent about what both misread."
)


def check_files(config: RunConfig) -> None:
    """Weights that are named by a URI are fetched, roots are only looked for.

    Raises: ValueError naming the option whose file or folder is not there; as ``fetch``.
    """
    recognizer, data = config.recognizer, config.data
    for option, roots, only in (
        ("train-roots", data.train_roots, LMDB_FILE),
        ("unlabelled-roots", data.unlabelled_roots, "*"),
        ("benchmark-roots", data.benchmark_roots, LMDB_FILE),
    ):
        for root in roots:
            if is_uri(root):
                check_there(root, only=only)
            elif not Path(root).is_dir():
                raise ValueError(f"--data.{option} names {root}, which is not a folder")
    starts_from_high_res = recognizer.student_start != "random" and not recognizer.student_weights
    if (
        data.unlabelled_roots
        or needs_teacher(config.objective)
        or (starts_from_high_res and not recognizer.start_weights)
    ):
        teacher_file(config)
    if starts_from_high_res:
        start_file(config)
    for option, file in (
        ("student-weights", recognizer.student_weights),
        ("language-weights", recognizer.language_weights),
    ):
        if file and not fetch(file, config.data.cache_folder).is_file():
            raise ValueError(f"--recognizer.{option} names {file}, which is not a file")


def check_words(config: RunConfig, words: Datasets) -> None:
    """Raises: ValueError for a benchmark that cannot be scored, or fewer training pairs than a batch."""
    for name, pack in words.benchmarks.items():
        if len(pack) == 0:
            raise ValueError(
                f"the benchmark {name} has no word that can be read; leave it out of --data.benchmark-roots"
            )
    check_judged({name: pack.labels for name, pack in words.benchmarks.items()})
    if len(words.train) < config.optim.batch_size:
        raise ValueError(
            f"{len(words.train)} training pairs are fewer than optim.batch_size {config.optim.batch_size}; "
            "give more, or a smaller --optim.batch-size"
        )


def summary(words: Datasets) -> list[str]:
    """How many words there are for what, and what had to be left out."""
    sets = ", ".join(f"{name} {len(pack)}" for name, pack in words.benchmarks.items())
    rejected = [f"{root}: {report.describe()}" for root, report in words.rejected.items() if not report.is_clean]
    lines = [f"{len(words.train)} training pairs, {len(words.validation)} held out; benchmarks: {sets}"]
    lines += [f"{root}: {count} pictures labelled by what the teacher reads" for root, count in words.num_read.items()]
    return [*lines, *rejected, *([VALIDATED_ON_READINGS] if words.validates_on_readings else [])]


def plan(config: RunConfig, num_steps: int) -> str:
    """What is trained, as the beginning of a sentence."""
    what = f"a {config.recognizer.trained} ({config.recognizer.name}, {config.objective.name})"
    return f"Training {what}: {num_steps} steps of {config.optim.batch_size} words"


def describe(config: RunConfig, words: Datasets, verb: str) -> Description:
    """What the tracking server is told of the run before it starts, by which command."""
    commit = git_commit()
    tags = {"recipe": config.recipe or "none", "git_commit": commit, "mlflow.source.git.commit": commit}
    tags["source_sha256"] = source_digest(Path(wing.__path__[0]) for wing in (kdltr_core, tune_spaces, pipelines))
    tags |= {
        "mlflow.source.name": f"kdltr {verb}",
        "mlflow.source.type": "LOCAL",
        "mlflow.user": user(),
        **noted("Not finished yet.", verb),
    }
    for option in ("teacher_weights", "student_weights", "language_weights"):
        if digest := _digest(config, option):
            tags[f"{option}_sha256"] = digest
    if words.num_read:
        tags["data_unlabelled"] = "; ".join(
            f"{root}: {count} used, {words.rejected[root].describe()}" for root, count in words.num_read.items()
        )
    if words.validates_on_readings:
        tags["validation"] = VALIDATED_ON_READINGS
    data, found = config.data, words.description
    sources = [given_source(root, data.train_roots, data.cache_folder) for root, _ in found.train]
    sources += [given_source(root, data.unlabelled_roots, data.cache_folder, only="*") for root, _ in found.unlabelled]
    sources += [root for root, _ in found.beside]
    notes = [_note(pack, "training", source) for pack, source in zip(words.train.packs, sources, strict=True)]
    notes += testing_notes(config.data, words.benchmarks)
    for context in ("training", "testing"):
        tags[f"data_{context}"] = ", ".join(f"{n.name} {n.fingerprint}" for n in notes if n.context == context)
    counts = {
        "unlabelled.num_used": sum(words.num_read.values()),
        "unlabelled.num_refused": sum(words.rejected[root].num_rejected for root in words.num_read),
    }
    headlines = ("accuracy", "images_per_second") if verb == "train" else ()
    return Description(config.name, config.flatten() | (counts if words.num_read else {}), tags, notes, headlines)


def hand_over(tracker: Tracker, status: Status, folder: RunFolder) -> bool:
    """Whether MLflow has all of a run that has ended: of a finished one its description and its model too."""
    if status != "FINISHED":
        return tracker.end(status, folder.artifacts)
    with suppress(OSError):  # a bucket that does not answer: what was brought before is handed over
        folder.collect()
    return tracker.end(status, folder.artifacts, noted(folder.summary, "train"), folder.model)


def git_commit() -> str:
    """Of the code that runs, with "-dirty" where it was edited since; "unknown" outside a repository or without git."""
    describe = ["git", "-C", kdltr_core.__path__[0], "describe", "--always", "--abbrev=40", "--dirty", "--exclude=*"]
    with suppress(OSError):  # no git here
        return subprocess.run(describe, capture_output=True, text=True).stdout.strip() or "unknown"
    return "unknown"


def user() -> str:
    """Who runs this, as far as the system knows: in a container a number may have no name."""
    with suppress(OSError, KeyError):
        return getpass.getuser()
    return str(os.getuid())


def source_digest(folders: Iterable[Path]) -> str:
    """Of all Python files in the folders and their names, so that nodes without a repository have a version as well."""
    digest = hashlib.sha256()
    for folder in folders:
        for file in sorted(folder.rglob("*.py")):
            content = file.read_bytes()
            digest.update(f"{file.relative_to(folder.parent).as_posix()} {len(content)}\n".encode() + content)
    return digest.hexdigest()


def _digest(config: RunConfig, option: str) -> str:
    given = getattr(config.recognizer, option)
    if option == "teacher_weights":
        idle = config.recognizer.student_start == "random" and not needs_teacher(config.objective)
        if idle and not config.data.unlabelled_roots:
            return ""
        try:
            path = teacher_file(config)
        except ValueError:
            return ""
    elif given:
        path = fetch(given, config.data.cache_folder)
    else:
        return ""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def testing_notes(config: DataConfig, packs: Mapping[str, Pack]) -> list[DatasetNote]:
    """Of the benchmarks."""
    folders = benchmark_folders(config)
    return [
        _note(pack, "testing", given_source(folders[name], config.benchmark_roots, config.cache_folder))
        for name, pack in packs.items()
    ]


def given_source(folder: str | Path, roots: Sequence[str], cache_folder: str, only: str = LMDB_FILE) -> str:
    """Where a set lies as the user said it: under a URI, if ``only`` such files were fetched from there."""
    for root in filter(is_uri, roots):
        copy = fetch(root, cache_folder, only=only)
        if Path(folder).is_relative_to(copy):
            return public(under(root, *Path(folder).relative_to(copy).parts))
    return str(folder)


def _note(pack: Pack, context: Literal["training", "testing"], source: str) -> DatasetNote:
    return DatasetNote(pack.name, source, context, pack.fingerprint, {"num_pairs": len(pack)})
