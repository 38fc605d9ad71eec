"""Ray: a cluster that is there, or a small one of this machine's own; and a group of workers on it."""

from __future__ import annotations

import logging
import os
import secrets
import socket
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import ray
import yaml
from ray.autoscaler.sdk import request_resources
from ray.exceptions import RayError
from ray.train import FailureConfig, ScalingConfig, TrainingFailedError
from ray.train import RunConfig as RayRunConfig
from ray.train.torch import TorchTrainer
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from kdltr_core.config import RunConfig
from kdltr_core.remote import is_uri
from pipelines.run.command_line import RunStopped
from pipelines.run.folder import REFUSAL_FILE, RunFolder
from pipelines.run.progress import progress_bar, say

# Only small things pass through Ray's object store: batches are read from memory-mapped packs by the workers.
OBJECT_STORE_BYTES = 128 * 2**20
ERRORS_FILE = "errors.txt"
SECONDS_TO_CONNECT = 10.0
# For the machines of a cluster that are still starting.
MINUTES_TO_WAIT = 10
# So often a lost group of workers, or the process of a trial, is started again.
MOST_FAILURES = 3
SECONDS_BETWEEN_COUNTS = 2.0
SECONDS_TO_ANSWER = 120.0
# Every widening costs the steps since the last checkpoint, and the start of a group.
SECONDS_BETWEEN_WIDENINGS = 60.0


@dataclass(frozen=True)
class Cluster:
    """What Ray can give.

    Attributes:
        num_cpus, num_gpus, num_nodes: of the machines that are up.
        offers_gpus: whether machines with GPUs are up, or may be started.
        is_own: whether this process began it, so that no machine will be added.
    """

    num_cpus: int
    num_gpus: int
    num_nodes: int
    offers_gpus: bool
    is_own: bool = True

    @property
    def kind(self) -> str:
        """What a worker takes one of."""
        return "GPU" if self.offers_gpus else "CPU"

    @property
    def room(self) -> int:
        """Workers that there is room for."""
        return self.num_gpus if self.offers_gpus else self.num_cpus

    def check(self, workers: int) -> None:
        """Raises: ValueError if there are more workers than GPUs or, where there is no GPU, than CPUs."""
        if workers > self.room:
            raise ValueError(
                f"--workers {workers} takes as many {self.kind}s and there {'is' if self.room == 1 else 'are'} "
                f"{self.room}; give --workers {self.room} or fewer, or join more nodes to the cluster"
            )

    def prepare(self, workers: int, fewest: int, run_folder: str | Path) -> Cluster:
        """Wait for machines that are still starting, and ask each for the run folder.

        Args:
            workers: that there is to be room for.
            fewest: workers to begin with, where no more machines come.
            run_folder: a path or a URI.

        Raises: ValueError if there is too little room in the end, or a machine does not see the folder.
        """
        cluster = self
        if not self.is_own and self.room < workers:
            there = f"{self.room} of {workers} {self.kind}s are there"
            say(f"{there}; waiting up to {MINUTES_TO_WAIT} minutes for the others")
            bundle = {"CPU": 1} if self.kind == "CPU" else {"CPU": 1, "GPU": 1}
            request_resources(bundles=[bundle] * workers)
            progress = progress_bar("waiting for machines")
            until = time.monotonic() + 60 * MINUTES_TO_WAIT
            while cluster.room < workers and time.monotonic() < until:
                progress(cluster.room, workers)
                time.sleep(SECONDS_BETWEEN_COUNTS)
                cluster = _measure(is_own=False)
            progress(workers, workers)
            request_resources(bundles=[])  # what the workers hold keeps the machines from here on
        cluster.check(fewest)
        if cluster.num_nodes > 1 and not is_uri(str(run_folder)):
            _check_shared(Path(run_folder))
        return cluster


def connect() -> Cluster:
    """The cluster of RAY_ADDRESS, else the one that ``ray start`` left on this machine, else one of our own.

    Raises: ValueError if no cluster answers at RAY_ADDRESS; RunStopped if none can be started here.
    """
    for name, value in {
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_TRAIN_ENABLE_PRINT_PATCH": "0",
        # Ray counts a lost machine for up to 20 s more, and so may try in vain to start a worker there for so long.
        "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S": "20",
    }.items():
        os.environ.setdefault(name, value)
    logging.getLogger("ray.train").setLevel(logging.ERROR)
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    address = _address()
    if not ray.is_initialized():
        if address:
            _join(address, quiet)
        else:
            _start(quiet)
    token = Path.home() / ".ray" / "auth_token"
    if token.is_file() and token.stat().st_uid == os.getuid() and token.stat().st_mode & 0o077:
        token.chmod(0o600)  # Ray writes it legible to every user of the machine
    return _measure(is_own=not address)


def _address() -> str:
    """Of a cluster that is named, or was begun on this machine; '' if there is none."""
    address = os.environ.get("RAY_ADDRESS", "")
    remembered = Path(os.environ.get("RAY_TMPDIR") or "/tmp", "ray", "ray_current_cluster")
    if address in ("", "auto") and remembered.exists():
        return remembered.read_text().strip()
    return "" if address == "local" else address


def _join(address: str, quiet: dict[str, Any]) -> None:
    """Raises: ValueError if no cluster answers; Ray itself would look for it for a quarter of an hour."""
    os.environ.setdefault("RAY_gcs_server_port_wait_time_s", "1")  # a try, of 40 s
    try:
        if address != "auto":
            parts = urlsplit(address if "://" in address else f"//{address}")
            socket.create_connection((parts.hostname or "", parts.port or 10001), SECONDS_TO_CONNECT).close()
        ray.init(address=address, **quiet)
    except (OSError, ValueError, RuntimeError) as error:
        raise ValueError(
            f"no Ray cluster answers at {address} ({str(error).strip().splitlines()[-1]}). To do without it, set "
            "RAY_ADDRESS=local. Where the cluster has a token, RAY_AUTH_MODE=token has to be set and "
            "~/.ray/auth_token be the cluster's"
        ) from error


def _start(quiet: dict[str, Any]) -> None:
    """Raises: RunStopped. Ray gives a machine 30 s to start it, fixed in its code, and a busy one needs a few tries."""
    for is_last in (False, False, True):
        try:
            ray.init(include_dashboard=False, object_store_memory=OBJECT_STORE_BYTES, **quiet)
            return
        except Exception as error:
            if is_last or "timed out during startup" not in str(error):
                raise RunStopped(f"Ray did not start on this machine: {error}") from error


def _measure(is_own: bool) -> Cluster:
    there = ray.cluster_resources()
    num_cpus, num_gpus = int(there.get("CPU", 0)), int(there.get("GPU", 0))
    num_nodes = sum(node["Alive"] for node in ray.nodes())
    return Cluster(num_cpus, num_gpus, num_nodes, num_gpus > 0 or may_start_gpus(), is_own)


def may_start_gpus() -> bool:
    """Whether the cluster that ``ray up`` began from this machine has a type of machine with GPUs."""
    try:
        cluster = yaml.safe_load((Path.home() / "ray_bootstrap_config.yaml").read_text())
        types = cluster["available_node_types"].values()
    except (OSError, RuntimeError, yaml.YAMLError, KeyError, TypeError, AttributeError):
        return False
    return any((kind.get("resources") or {}).get("GPU", 0) and kind.get("max_workers", 0) for kind in types)


def _check_shared(run_folder: Path) -> None:
    """Raises: ValueError with a machine of the cluster that does not see the run folder, and the way out."""
    marker = run_folder / f".seen-by-all-{secrets.token_hex(8)}"
    marker.parent.mkdir(parents=True, exist_ok=True)
    marker.touch()
    look = ray.remote(num_cpus=0, max_retries=0)(os.path.exists)
    try:
        nodes = [node for node in ray.nodes() if node["Alive"]]  # of one address there may be several
        there = [NodeAffinitySchedulingStrategy(node["NodeID"], soft=False) for node in nodes]
        answers = [look.options(scheduling_strategy=place).remote(str(marker)) for place in there]
        for address, answer in zip([node["NodeManagerAddress"] for node in nodes], answers, strict=True):
            with suppress(RayError):  # a machine that is gone, or slow, is no reason
                if not ray.get(answer, timeout=SECONDS_TO_ANSWER):
                    raise ValueError(
                        f"the machine {address} does not see the run folder {run_folder}, which all machines must "
                        "share: give an --output-folder on a shared mount, or in an object store such as "
                        "s3://bucket/runs"
                    )
    finally:
        marker.unlink(missing_ok=True)


def train_on(
    cluster: Cluster,
    function: Callable[[dict[str, Any]], Any],
    settings: dict[str, Any],
    config: RunConfig,
    run_folder: RunFolder,
) -> None:
    """Runs ``function(settings)``, which returns True, on every worker of a group that is rebuilt when one is lost.

    Raises: RunStopped with what a worker wrote into refused.txt in the run's folder, or if the group was lost more
        than ``MOST_FAILURES`` times; KeyboardInterrupt.
    """
    failure: TrainingFailedError | None = None
    result: Any = None
    # A fixed number of workers, or the range within which Ray follows what the cluster can give.
    elastic = 0 < config.min_workers < config.workers
    width: Any = (config.min_workers, config.workers) if elastic else config.workers
    try:
        result = TorchTrainer(
            function,
            train_loop_config=settings,
            scaling_config=ScalingConfig(
                num_workers=width,
                use_gpu=cluster.offers_gpus,
                elastic_resize_monitor_interval_s=SECONDS_BETWEEN_WIDENINGS,  # type: ignore[call-arg]
            ),
            run_config=RayRunConfig(
                name="ray",
                storage_path=run_folder.storage.place,
                failure_config=FailureConfig(max_failures=MOST_FAILURES),
            ),
        ).fit()
    except TrainingFailedError as error:
        failure = error
    except SystemExit:  # how Ray leaves after Ctrl-C
        raise KeyboardInterrupt from None
    run_folder.collect()
    refusal = run_folder.path / REFUSAL_FILE
    if refusal.exists():
        raise RunStopped(refusal.read_text(encoding="utf-8"))
    if failure is not None:
        (run_folder.path / ERRORS_FILE).write_text("".join(traceback.format_exception(failure)), encoding="utf-8")
        run_folder.keep(ERRORS_FILE)
        cause = str(failure).strip().splitlines()[-1]
        raise RunStopped(f"workers were lost: {cause}; the whole account is in {run_folder.named(ERRORS_FILE)}")
    if not result.return_value:
        raise KeyboardInterrupt
