"""The replicas of a reading service: the seam to Ray Serve."""

from __future__ import annotations

import asyncio
import base64
import io
import logging
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import ray
import torch
from PIL import Image
from ray import serve
from ray.exceptions import RayActorError, RayError
from ray.serve.exceptions import BackPressureError, RayServeException

from kdltr_core.inference.reader import Prediction, UnreadableImage
from pipelines.prediction.doubt import doubt_of
from pipelines.prediction.open_reader import open_reader
from pipelines.prediction.predictions import Crop, cropper_for
from pipelines.prediction.sources import Source
from pipelines.ray_train.cluster import Cluster
from pipelines.run.command_line import RunStopped
from pipelines.service.app import WordAnswer, busy
from pipelines.service.options import ServeOptions

# Images that are decoded at a time, which with the limit of their pixels bounds a replica's memory.
NUM_DECODED = 2
# A replica that ended while it read: the request goes to another one once, lest an image end them all.
NUM_TRIES = 2
DIGITS = 6  # of a probability


class WordReplica:
    """Reads images: decodes and shrinks them in threads, and reads those of all requests that wait in one batch."""

    def __init__(self, student: str, options: ServeOptions) -> None:
        num_threads = max(1, int(options.cpus_per_replica))
        torch.set_num_threads(num_threads)
        device = "cuda" if options.gpus_per_replica else "cpu"
        limits = options.limits
        self._reader = open_reader(
            student,
            device,
            options.max_batch,
            num_threads=num_threads,
            max_pixels=limits.pixels,
            teacher=options.teacher,
        )
        self._detects = options.detect
        self._crop = cropper_for(self._reader, options.detect, num_threads)
        self._decoders = ThreadPoolExecutor(NUM_DECODED, thread_name_prefix="decode")
        self._is_idle = asyncio.Event()
        self._is_idle.set()
        self._read_batch.set_max_batch_size(options.max_batch)  # type: ignore[attr-defined]

    async def read(self, images: Sequence[bytes], with_seen: bool) -> list[WordAnswer]:
        return list(await asyncio.gather(*(self._read_one(image, with_seen) for image in images)))

    async def image_size(self) -> tuple[int, int]:
        return self._reader.image_size

    async def check_health(self) -> None:
        """Ray Serve's question; a replica that does not answer it is replaced."""
        await asyncio.to_thread(self._reader, [Image.new("RGB", (1, 1))])

    async def _read_one(self, data: bytes, with_seen: bool) -> WordAnswer:
        loop = asyncio.get_running_loop()
        try:
            crops = await loop.run_in_executor(self._decoders, self._crop, Source("", lambda: data))
        except UnreadableImage as error:
            return WordAnswer(error=f"this cannot be read as an image: {error.reason}")
        words = await asyncio.gather(*(self._read_crop(crop, with_seen) for crop in crops))
        return WordAnswer(words=words) if self._detects else words[0]

    async def _read_crop(self, crop: Crop, with_seen: bool) -> WordAnswer:
        # Ray closes a batch before the one ahead of it has been read: what comes meanwhile waits here, to be one.
        await self._is_idle.wait()
        found = await self._read_batch(crop.pixels)
        return WordAnswer(
            text=found.text,
            confidence=round(found.confidence, DIGITS),
            character_confidences=[round(confidence, DIGITS) for confidence in found.character_confidences],
            doubt=doubt_of(crop.size, crop.gap, found),
            box=crop.box and [[round(number, 1) for number in corner] for corner in crop.box],
            seen=_png(crop.pixels) if with_seen else None,
        )

    @serve.batch(batch_wait_timeout_s=0)
    async def _read_batch(self, batch: list[np.ndarray]) -> list[Prediction]:
        self._is_idle.clear()
        try:
            return await asyncio.to_thread(self._reader.read_pictures, batch)
        finally:
            self._is_idle.set()


class Replicas:
    """Replicas on a cluster, from their start to their end.

    Args:
        student: a path that every machine of the cluster sees, or a URI.
        name: of the application among those of the cluster.
    """

    def __init__(self, cluster: Cluster, student: str, options: ServeOptions, name: str) -> None:
        self._cluster, self._student, self._options, self._name = cluster, student, options, name
        self._handle: Any = None

    def start(self) -> None:
        """Raises: ValueError if there is too little room; RunStopped if a replica does not start."""
        options = self._options
        self._check_room()
        logging.getLogger("ray.serve").setLevel(logging.ERROR)
        serve.start(proxy_location="Disabled")
        as_deployment = serve.deployment(
            name="reader",
            num_replicas=options.replicas,
            ray_actor_options={"num_cpus": options.cpus_per_replica, "num_gpus": options.gpus_per_replica},
            max_ongoing_requests=max(2 * options.max_batch, options.limits.requests_at_once),
            max_constructor_retry_count=2,
            # Three failures in a row, and a replica that hangs is replaced: after some ten seconds.
            health_check_period_s=1,
            health_check_timeout_s=3,
            graceful_shutdown_timeout_s=5,
        )
        application = as_deployment(WordReplica).bind(self._student, options)
        try:
            self._handle = serve.run(application, name=self._name, route_prefix=None)
        except RuntimeError as error:
            said = serve.status().applications[self._name].deployments["reader"].message.strip().splitlines()
            hint = "; every machine has to see the student, under one path or by a URI"
            raise RunStopped(
                f"the replicas do not start: {said[-1]}{hint if self._cluster.num_nodes > 1 else ''}"
            ) from error

    async def read(self, images: Sequence[bytes], with_seen: bool) -> list[WordAnswer]:
        for _ in range(NUM_TRIES):
            try:
                return await self._handle.read.remote(list(images), with_seen)
            except RayActorError:
                continue
            except (BackPressureError, RayServeException) as error:
                raise busy("no replica is free; ask again in a second") from error
        raise busy(f"{NUM_TRIES} replicas ended while they read this; ask again in a while, or leave an image out")

    async def image_size(self) -> tuple[int, int]:
        try:
            return await self._handle.image_size.remote()
        except (RayError, RayServeException) as error:
            raise busy("no replica answers; they may be starting anew") from error

    def stop(self) -> None:
        """Ends the replicas, and the cluster where it was started for them."""
        if not self._cluster.is_own:
            serve.delete(self._name)
        ray.shutdown()

    def _check_room(self) -> None:
        options, cluster = self._options, self._cluster
        each = {"CPUs": options.cpus_per_replica, "GPUs": options.gpus_per_replica}
        for (kind, wanted), there in zip(each.items(), (cluster.num_cpus, cluster.num_gpus), strict=True):
            if options.replicas * wanted > there:
                raise ValueError(
                    f"--replicas {options.replicas} take {options.replicas * wanted:g} {kind} of {there}; give fewer "
                    f"--replicas or --{kind.lower()}-per-replica"
                )


def _png(pixels: np.ndarray) -> str:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return base64.b64encode(file.getvalue()).decode()
