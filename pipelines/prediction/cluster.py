"""Reading many images with all machines of a cluster: the seam to Ray Data, which writes what is read as Parquet."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import pickle
import socket
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import ray
from ray.data import ActorPoolStrategy, DataContext
from ray.exceptions import RayError

from kdltr_core.files import locked, read_json, write_text
from kdltr_core.inference.reader import BaseReader, Reader
from kdltr_core.inference.weights_files import fetch_recognizer, find_recognizer
from kdltr_core.remote import fetch
from pipelines.prediction.open_reader import is_onnx, open_reader_for
from pipelines.prediction.options import PredictOptions
from pipelines.prediction.output import as_table
from pipelines.prediction.predictions import cropper_for, predict_images
from pipelines.prediction.sources import Skipped, Source, Sources
from pipelines.ray_train.cluster import connect
from pipelines.run.command_line import RunStopped
from pipelines.run.progress import say

# Programs that read a folder of Parquet files pass over names that begin so.
JOB_FILE, LOCK_FILE = "_job.json", "_lock"
THREADS_OF_A_WORKER = 2


class ClusterReader:
    """A worker: from images to rows of words. An image without words, or one that is skipped, is a row without text.

    Args:
        options: with ``student`` as a URI or an absolute path.
        roots: what has to be seen from here.

    Raises: ValueError if something is not.
    """

    def __init__(self, options: PredictOptions, roots: Sequence[str], device: str) -> None:
        missing = [root for root in roots if not os.path.exists(root)]
        if missing:
            raise ValueError(f"{socket.gethostname()} does not see {missing[0]}; put it on a shared folder")
        self._options = options
        self._reader = open_reader_for(options, device, num_threads=1)
        self._cropper = cropper_for(self._reader, options.detect, 1)

    def __call__(self, batch: dict[str, np.ndarray]) -> pa.Table:
        sources = [pickle.loads(source) for source in batch["source"]]
        threads = self._options.threads or THREADS_OF_A_WORKER
        chunks = list(predict_images(self._reader, self._cropper, sources, threads))
        words = as_table([word for chunk in chunks for word in chunk.words], self._options.detect)
        words = words.append_column("error", pa.nulls(len(words), pa.string()))
        reasons = {image.image: image.reason for chunk in chunks for image in chunk.skipped}
        without = [source.name for source in sources if source.name not in set(words["image"].to_pylist())]
        rows = [{"image": name, "error": reasons.get(name)} for name in without]
        return pa.concat_tables([words, pa.Table.from_pylist(rows, words.schema)])


def read_on_cluster(options: PredictOptions, reader: BaseReader, sources: Sources) -> list[Skipped]:
    """Reads the images that have no row yet in the folder ``options.output``; what was skipped, in earlier tries too.

    An image is known by its name: one whose file has changed since is not read again. What was half written when the
    command was killed is.

    Raises: ValueError for a folder of something else; HeldByAnother; RunStopped if the workers cannot go on.
    """
    folder = Path(options.output).expanduser().absolute()
    student, cache_folder = options.student, options.cache_folder
    weights = fetch(student, cache_folder) if is_onnx(student) else fetch_recognizer(student, cache_folder)
    file = weights if is_onnx(student) else find_recognizer(weights)
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    job = {"student": digest} | {name: getattr(options, name) for name in ("detect", "max_pixels", "teacher")}
    _check_job(folder, job)
    folder.mkdir(parents=True, exist_ok=True)
    with locked(folder / LOCK_FILE, seconds=0):
        write_text(folder / JOB_FILE, json.dumps(job))
        errors = _read_errors(folder)
        to_read = [source for source in sources.images if source.name not in errors]
        if len(to_read) < len(sources.images):
            say(f"{len(sources.images) - len(to_read)} of {len(sources.images)} images were read before")
        if to_read:
            options = replace(options, output=str(folder))
            _read(to_read, options, [*sources.roots, str(folder)], may_use_gpus=isinstance(reader, Reader))
            errors = _read_errors(folder)
    reasons = [(source.name, errors.get(source.name)) for source in sources.images]
    skipped = [Skipped(name, reason) for name, reason in reasons if reason]
    say(f"words of {len(sources.images) - len(skipped)} images: {options.output}")
    return skipped


def _read(images: Sequence[Source], options: PredictOptions, roots: Sequence[str], may_use_gpus: bool) -> None:
    """A part of ``options.block_size`` images is there as soon as it is read; what a lost worker had, another reads."""
    cluster = connect()
    context = DataContext.get_current()
    context.enable_progress_bars = sys.stderr.isatty()
    context.execution_options.preserve_order = True
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    on_gpus = cluster.offers_gpus and may_use_gpus
    num_blocks = -(-len(images) // options.block_size)
    rows = ray.data.from_items([{"source": pickle.dumps(image)} for image in images], override_num_blocks=num_blocks)
    words = rows.map_batches(
        ClusterReader,
        fn_constructor_args=(options, list(roots), "cuda" if on_gpus else "cpu"),
        batch_size=None,
        num_cpus=1,
        num_gpus=1 if on_gpus else 0,
        compute=ActorPoolStrategy(min_size=1, max_size=max(1, min(cluster.room, num_blocks))),
    )
    try:
        with _silent_core():
            words.write_parquet(options.output)
    except RayError as error:
        raise RunStopped(f"the workers failed: {str(error).strip().splitlines()[-1]}") from error


@contextmanager
def _silent_core() -> Iterator[None]:
    """Standard error is Python's alone: Ray's core warns there, in red, of what this process holds on to anyway."""
    python, kept = sys.stderr, os.dup(2)
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 2)
    os.close(null)
    try:
        with os.fdopen(os.dup(kept), "w", 1, errors="backslashreplace") as sys.stderr:
            yield
    finally:
        sys.stderr = python
        os.dup2(kept, 2)
        os.close(kept)


def _check_job(folder: Path, job: dict[str, Any]) -> None:
    """Raises: ValueError if the folder holds something else, or what another student read."""
    if (folder / JOB_FILE).exists():
        held = read_json(folder / JOB_FILE, dict[str, Any], "give another --output")
        if others := [name for name in job if held.get(name) != job[name]]:
            raise ValueError(
                f"{folder} holds words that were read with another {', '.join(others)}; give another --output, or "
                "remove that folder"
            )
    elif folder.is_dir() and any(not path.name.startswith((LOCK_FILE, ".")) for path in folder.iterdir()):
        raise ValueError(f"{folder} holds something else; give --output a folder that is empty or not there yet")


def _read_errors(folder: Path) -> dict[str, str | None]:
    """Every image that has a row, and why it was skipped, or None. Parts that are not whole are removed."""
    errors: dict[str, str | None] = {}
    for part in folder.glob("*.parquet"):
        try:
            table = pq.read_table(part, columns=["image", "error"])
        except (OSError, pa.ArrowException):
            part.unlink()
        else:
            errors.update(zip(table["image"].to_pylist(), table["error"].to_pylist(), strict=True))
    return errors
