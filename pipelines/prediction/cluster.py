"""Reading many images with all machines of a cluster: the seam to Ray Data."""

from __future__ import annotations

import logging
import os
import pickle
import socket
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import ray
from ray.data import ActorPoolStrategy, DataContext
from ray.exceptions import RayError

from kdltr_core.inference.reader import BaseReader, Reader
from pipelines.prediction.open_reader import open_reader
from pipelines.prediction.options import PredictOptions
from pipelines.prediction.parts import Block, PartsFolder, blocks_of, part_bytes
from pipelines.prediction.reading import cutter_for, read_images
from pipelines.prediction.sources import Skipped, Sources
from pipelines.ray_train.cluster import Cluster, connect
from pipelines.run.command_line import RunStopped
from pipelines.run.progress import progress_bar, say

THREADS_OF_A_WORKER = 2


class BlockReader:
    """A worker: reads block after block.

    Args:
        options: with ``student`` as a URI or an absolute path.
        roots: what has to be seen from here.

    Raises: ValueError if something is not.
    """

    def __init__(self, options: PredictOptions, roots: Sequence[str], device: str) -> None:
        missing = [root for root in roots if not os.path.exists(root)]
        if missing:
            raise ValueError(f"{socket.gethostname()} does not see {missing[0]}; put the images on a shared folder")
        self._options = options
        self._reader = open_reader(
            options.student,
            device,
            options.batch_size,
            num_threads=1,
            max_pixels=options.max_pixels,
            cache_folder=options.cache_folder,
        )
        self._cutter = cutter_for(self._reader, options.cutting, 1)

    def __call__(self, batch: dict[str, np.ndarray]) -> dict[str, Any]:
        blocks: list[Block] = [pickle.loads(block) for block in batch["block"]]
        return {"number": [block.number for block in blocks], "part": [self._read(block) for block in blocks]}

    def _read(self, block: Block) -> bytes:
        threads = self._options.threads or THREADS_OF_A_WORKER
        chunks = list(read_images(self._reader, self._cutter, block.sources, threads))
        rows = [row for chunk in chunks for row in chunk.rows]
        skipped = [image for chunk in chunks for image in chunk.skipped]
        return part_bytes(block.key, len(block.sources), rows, skipped, self._options.detect)


def read_on_cluster(options: PredictOptions, reader: BaseReader, sources: Sources) -> list[Skipped]:
    """Reads what has not been read yet into the folder ``options.output``; what was skipped, in earlier tries too.

    Raises: ValueError for a folder of something else; RunStopped if the workers cannot go on.
    """
    job = {
        "student": reader.digest(),
        "detect": options.cutting,
        "max_pixels": options.max_pixels,
        "block_size": options.block_size,
    }
    folder = PartsFolder(Path(options.output).expanduser(), job)
    blocks = blocks_of(sources.images, options.block_size, job)
    with folder.held():
        to_read = [block for block in blocks if folder.find(block) is None]
        num_images = sum(len(block.sources) for block in to_read)
        num_done = len(sources.images) - num_images
        if num_done:
            say(f"{num_done} of {len(sources.images)} images are read already")
        if to_read:
            progress = progress_bar("reading images")
            progress(num_done, len(sources.images))
            for number, part in _parts(connect(), to_read, options, sources.roots, isinstance(reader, Reader)):
                folder.add(blocks[number], part)
                num_done += len(blocks[number].sources)
                progress(num_done, len(sources.images))
        skipped = folder.finish(blocks)
    say(f"words of {len(sources.images) - len(skipped)} images: {options.output}")
    return skipped


def _parts(
    cluster: Cluster, blocks: Sequence[Block], options: PredictOptions, roots: Sequence[str], may_use_gpus: bool
) -> Iterator[tuple[int, bytes]]:
    """Number and part of each block, as they are done. What a lost worker had is read by another."""
    context = DataContext.get_current()
    context.enable_progress_bars = False
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    on_gpus = cluster.offers_gpus and may_use_gpus
    # A block is a task, and its part comes as soon as it is read.
    waiting = ray.data.from_items([{"block": pickle.dumps(block)} for block in blocks], override_num_blocks=len(blocks))
    parts = waiting.map_batches(
        BlockReader,
        fn_constructor_args=(options, list(roots), "cuda" if on_gpus else "cpu"),
        batch_size=1,
        num_cpus=1,
        num_gpus=1 if on_gpus else 0,
        compute=ActorPoolStrategy(min_size=1, max_size=max(1, min(cluster.room, len(blocks)))),
    )
    try:
        for row in parts.iter_rows():
            yield int(row["number"]), row["part"]
    except RayError as error:
        raise RunStopped(f"the workers cannot go on: {str(error).strip().splitlines()[-1]}") from error
