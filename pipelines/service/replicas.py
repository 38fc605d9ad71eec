"""The replicas of a reading service: the seam to Ray Serve."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import ray
import torch
from ray import serve
from ray.exceptions import RayActorError, RayError
from ray.serve.exceptions import BackPressureError, RayServeException
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from kdltr_core.inference.reader import Prediction
from pipelines.prediction.open_reader import open_reader
from pipelines.ray_train.cluster import Cluster
from pipelines.run.command_line import RunStopped
from pipelines.service.app import ImageAnswer
from pipelines.service.limits import ServiceLimits, busy
from pipelines.service.reader import ImageReader, Pixels, read_batch

# A replica that ended while it read: the request goes to another one once, lest an image end them all.
NUM_TRIES = 2
SECONDS_TO_LOOK = 120.0


@dataclass(frozen=True)
class ReplicaOptions:
    """Who reads, and with what.

    Attributes:
        max_batch: images read at a time.
        batch_wait: seconds that an idle replica waits for others to come, before it reads a batch that is not full.
    """

    replicas: int
    cpus: float
    gpus: float
    max_batch: int
    batch_wait: float


class WordReplica:
    """Reads images: unpacks them in threads and reads those of all requests that wait in one batch."""

    def __init__(self, student: str, options: ReplicaOptions, limits: ServiceLimits) -> None:
        num_threads = max(1, int(options.cpus))
        torch.set_num_threads(num_threads)
        device = "cuda" if options.gpus else "cpu"
        self._reader = open_reader(
            student, device, options.max_batch, num_threads=num_threads, max_pixels=limits.pixels
        )
        self._one_at_a_time = ThreadPoolExecutor(1, thread_name_prefix="read")
        self._is_idle = asyncio.Event()
        self._is_idle.set()
        self._images = ImageReader(self._reader, self._read_pixels)
        self._read_batch.set_max_batch_size(options.max_batch)  # type: ignore[attr-defined]
        self._read_batch.set_batch_wait_timeout_s(options.batch_wait)  # type: ignore[attr-defined]

    async def read(self, images: Sequence[bytes], with_seen: bool) -> list[ImageAnswer]:
        return await self._images.read(images, with_seen)

    async def about(self) -> dict[str, Any]:
        return {"image_size": list(self._images.size)}

    async def _read_pixels(self, pixels: Pixels) -> Prediction:
        # Ray closes a batch before the one ahead of it has been read: what comes meanwhile waits here, to be one.
        await self._is_idle.wait()
        return await self._read_batch(pixels)

    @serve.batch
    async def _read_batch(self, batch: list[Pixels]) -> list[Prediction]:
        self._is_idle.clear()
        try:
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(self._one_at_a_time, read_batch, self._reader, batch)
        finally:
            self._is_idle.set()


class Replicas:
    """Replicas on a cluster, from their start to their end.

    Args:
        student: a path that every machine of the cluster sees, or a URI.
        name: of the application among those of the cluster.
    """

    def __init__(
        self, cluster: Cluster, student: str, options: ReplicaOptions, limits: ServiceLimits, name: str
    ) -> None:
        self._cluster, self._student, self._options, self._limits, self._name = cluster, student, options, limits, name
        self._handle: Any = None

    def start(self) -> None:
        """Raises: ValueError if there is too little room or a machine lacks the student; RunStopped if one fails."""
        _check_room(self._cluster, self._options)
        if self._cluster.num_nodes > 1:
            _check_machines(self._student)
        logging.getLogger("ray.serve").setLevel(logging.ERROR)
        serve.start(proxy_location="Disabled")
        options = self._options
        as_deployment = serve.deployment(
            name="reader",
            num_replicas=options.replicas,
            ray_actor_options={"num_cpus": options.cpus, "num_gpus": options.gpus},
            max_ongoing_requests=max(2 * options.max_batch, self._limits.requests_at_once),
            max_constructor_retry_count=2,
            health_check_period_s=5,
            health_check_timeout_s=30,
            graceful_shutdown_timeout_s=5,
        )
        try:
            self._handle = serve.run(
                as_deployment(WordReplica).bind(self._student, options, self._limits),
                name=self._name,
                route_prefix=None,
            )
        except RuntimeError as error:
            raise RunStopped(f"the replicas do not start: {_last_line(error)}") from error

    async def read(self, images: Sequence[bytes], with_seen: bool) -> list[ImageAnswer]:
        for _ in range(NUM_TRIES):
            try:
                return await self._handle.read.remote(list(images), with_seen)
            except RayActorError:
                continue
            except (BackPressureError, RayServeException) as error:
                raise busy("no replica is free; ask again in a second") from error
        raise busy(f"{NUM_TRIES} replicas ended while they read this; ask again in a while, or leave an image out")

    async def about(self) -> dict[str, Any]:
        try:
            return await self._handle.about.remote()
        except (RayError, RayServeException) as error:
            raise busy("no replica answers; they may be starting anew") from error

    def stop(self) -> None:
        """Ends the replicas, and the cluster where it was started for them."""
        if not self._cluster.is_own:
            serve.delete(self._name)
        ray.shutdown()


def _check_room(cluster: Cluster, options: ReplicaOptions) -> None:
    for kind, each, there in (("CPU", options.cpus, cluster.num_cpus), ("GPU", options.gpus, cluster.num_gpus)):
        if options.replicas * each > there:
            raise ValueError(
                f"--replicas {options.replicas} of {each:g} {kind}s each take {options.replicas * each:g} and there "
                f"{'is' if there == 1 else 'are'} {there}; give fewer --replicas or --{kind.lower()}s-per-replica"
            )


def _check_machines(student: str) -> None:
    """Raises: ValueError naming a machine that cannot load the student."""
    looks = {
        node["NodeManagerAddress"]: _look.options(
            scheduling_strategy=NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
        ).remote(student)
        for node in ray.nodes()
        if node["Alive"]
    }
    for address, look in looks.items():
        try:
            fault = ray.get(look, timeout=SECONDS_TO_LOOK)
        except RayError as error:
            fault = f"cannot look for it: {_last_line(error)}"
        if fault:
            raise ValueError(
                f"the machine {address} cannot load the student ({fault}); put it into a folder that all machines "
                "share, or into an object store and give its URI"
            )


@ray.remote(num_cpus=0, max_retries=0)
def _look(student: str) -> str:
    try:
        open_reader(student)
    except (OSError, ValueError) as error:
        return f"{socket.gethostname()}: {error}"
    return ""


def _last_line(error: Exception) -> str:
    return str(error).strip().splitlines()[-1]
