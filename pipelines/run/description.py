"""What the tracking server is told of a run: parameters, tags, the data sets, and the versions of code and weights."""

from __future__ import annotations

import getpass
import hashlib
import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import kdltr_core
import pipelines
import tune_spaces
from kdltr_core.config import DataConfig, RunConfig
from kdltr_core.data.dataset import Datasets
from kdltr_core.data.pack import Pack
from kdltr_core.data.roots import benchmark_folders
from kdltr_core.remote import LMDB_FILE, fetch, is_uri, public, under
from kdltr_core.train.build import start_file, teacher_file
from pipelines.run.checks import VALIDATED_ON_READINGS, uses_teacher

_LONGEST_DIGEST = 36
_LONGEST_TAG = 8000


@dataclass(frozen=True)
class Description:
    """What is known of a run before it starts.

    Attributes:
        training, testing: data sets, as ``dataset_note`` gives them.
        headlines: metrics that MLflow is to list first.
    """

    name: str
    parameters: Mapping[str, Any]
    tags: Mapping[str, str]
    training: Sequence[Mapping[str, str]] = ()
    testing: Sequence[Mapping[str, str]] = ()
    headlines: Sequence[str] = ()


def describe(config: RunConfig, words: Datasets, verb: str) -> Description:
    """Of a run that the command ``verb`` begins."""
    commit = git_commit()
    tags = {
        "recipe": config.recipe or "none",
        "git_commit": commit,
        "mlflow.source.git.commit": commit,
        "source_sha256": source_digest(Path(wing.__path__[0]) for wing in (kdltr_core, tune_spaces, pipelines)),
        "mlflow.source.name": f"kdltr {verb}",
        "mlflow.source.type": "LOCAL",
        "mlflow.user": user(),
        **noted("Not finished yet.", verb),
        **_weights_digests(config),
    }
    parameters = config.flatten()
    if words.num_read:
        refused = {root: words.rejected[root] for root in words.num_read}
        tags["data_unlabelled"] = "; ".join(
            f"{root}: {count} used, {refused[root].describe()}" for root, count in words.num_read.items()
        )
        parameters["unlabelled.num_used"] = sum(words.num_read.values())
        parameters["unlabelled.num_refused"] = sum(report.num_rejected for report in refused.values())
    if words.validates_on_readings:
        tags["validation"] = VALIDATED_ON_READINGS
    data, roots = config.data, {"train": config.data.train_roots, "unlabelled": config.data.unlabelled_roots}
    sources = [
        given_source(p.name, roots.get(p.role, ()), data.cache_folder, "*" if p.role == "unlabelled" else LMDB_FILE)
        for p in words.description.packs
        if p.role != "benchmark"
    ]
    training = [dataset_note(pack, source) for pack, source in zip(words.train.packs, sources, strict=True)]
    headlines = ("accuracy", "images_per_second") if verb == "train" else ()
    return Description(config.name, parameters, tags, training, testing_notes(data, words.benchmarks), headlines)


def testing_notes(config: DataConfig, packs: Mapping[str, Pack]) -> list[dict[str, str]]:
    """``dataset_note`` of the benchmarks."""
    folders = benchmark_folders(config)
    return [
        dataset_note(pack, given_source(folders[name], config.benchmark_roots, config.cache_folder))
        for name, pack in packs.items()
    ]


def dataset_note(pack: Pack, source: str) -> dict[str, str]:
    """A data set in the words of ``mlflow.entities.Dataset``.

    Args:
        source: where the user said that it lies.
    """
    return {
        "name": pack.name,
        "digest": pack.fingerprint[:_LONGEST_DIGEST],
        "source_type": source.partition("://")[0] if is_uri(source) else "local",
        "source": json.dumps({"uri": source}),
        "profile": json.dumps({"num_pairs": len(pack)}),
    }


def noted(text: str, verb: str) -> dict[str, str]:
    """The tag that MLflow shows as a run's description: Markdown, and the command as it was typed, without secrets."""
    words = ["".join(map(public, re.split("(=)", word, maxsplit=1))) for word in sys.argv[1:]]
    typed = shlex.join(["kdltr", verb, *words])
    room = _LONGEST_TAG - len(typed) - 100
    text = text if len(text) <= room else f"{text[:room].rpartition(chr(10))[0]}\n\n…"
    return {"mlflow.note.content": f"{text}\n\n```\n{typed}\n```"}


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


def given_source(folder: str | Path, roots: Sequence[str], cache_folder: str, only: str = LMDB_FILE) -> str:
    """Where a set lies as the user said it: under a URI, if ``only`` such files were fetched from there."""
    for root in filter(is_uri, roots):
        copy = fetch(root, cache_folder, only=only)
        if Path(folder).is_relative_to(copy):
            return public(under(root, *Path(folder).relative_to(copy).parts))
    return str(folder)


def _weights_digests(config: RunConfig) -> dict[str, str]:
    language, given, digests = config.recognizer.language_weights, dict[str, Path](), dict[str, str]()
    if uses_teacher(config):
        given["teacher_weights"] = teacher_file(config)
    if start := start_file(config):
        given["student_weights"] = start
    if language:
        given["language_weights"] = fetch(language, config.data.cache_folder)
    for name, path in given.items():
        with path.open("rb") as file:
            digests[f"{name}_sha256"] = hashlib.file_digest(file, "sha256").hexdigest()
    return digests
