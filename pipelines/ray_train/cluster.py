"""Ray: a cluster that is there, or a small one of this machine's own; and a group of workers on it."""

from __future__ import annotations

import logging
import os
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
from ray.train import FailureConfig, ScalingConfig, TrainingFailedError, WorkerGroupError
from ray.train import RunConfig as RayRunConfig
from ray.train.torch import TorchTrainer

from kdltr_core.config import RunConfig
from pipelines.ray_train import nodes
from pipelines.run.command_line import RunStopped
from pipelines.run.folder import REFUSAL_FILE, RunFolder
from pipelines.run.progress import say
from pipelines.watch import failure_sentence, watched

# Only small things pass through Ray's object store: batches are read from memory-mapped packs by the workers.
OBJECT_STORE_BYTES = 128 * 2**20
ERRORS_FILE = "errors.txt"
# Times that machines are counted and asked anew because one was lost meanwhile.
NUM_COUNTS = 5
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

    def prepare(self, config: RunConfig, run_folder: str | Path, progress: Callable[[int, int], None]) -> Cluster:
        """Wait for machines that are still starting, and ask each for the run folder and the data.

        Args:
            run_folder: a path or a URI.
            progress: called with (GPUs or CPUs that are there, needed).

        Raises: ValueError if there is too little room in the end, or a machine lacks something.
        """
        cluster = self
        for _ in range(NUM_COUNTS):
            if not cluster.is_own and cluster.room < config.workers and config.wait_minutes:
                there = f"{cluster.room} of {config.workers} {cluster.kind}s are there"
                say(f"{there}; waiting up to {config.wait_minutes:g} minutes for the others")
                nodes.wait_for(cluster.kind, config.workers, config.wait_minutes, progress)
                cluster = _measure(is_own=False)
            cluster.check(config.min_workers or config.workers)
            if cluster.num_nodes == 1 or nodes.check_nodes(config, str(run_folder)):
                return cluster
            cluster = _measure(is_own=False)
        raise ValueError("machines of the cluster go while they are asked for the run's files; look at `ray status`")


def connect() -> Cluster:
    """The cluster of RAY_ADDRESS, else the one that ``ray start`` left on this machine, else one of our own."""
    for name, value in {
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_TRAIN_ENABLE_PRINT_PATCH": "0",
        # Ray counts a lost machine for up to 20 s more, and so may try in vain to start a worker there for so long.
        "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S": "20",
    }.items():
        os.environ.setdefault(name, value)
    logging.getLogger("ray.train").setLevel(logging.ERROR)
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    is_own = os.environ.get("RAY_ADDRESS", "") in ("", "local")
    if not ray.is_initialized():
        try:
            _start(quiet)
        except ValueError as error:
            if "existing cluster" not in str(error):
                raise
            ray.init(address="auto", **quiet)
            is_own = False
        except ConnectionError as error:
            raise ValueError(
                f"no Ray cluster answers at RAY_ADDRESS {os.environ.get('RAY_ADDRESS')} ({error}); where it has a "
                "token, RAY_AUTH_MODE=token has to be set and ~/.ray/auth_token be the cluster's"
            ) from error
    token = Path.home() / ".ray" / "auth_token"
    if token.is_file() and token.stat().st_uid == os.getuid() and token.stat().st_mode & 0o077:
        token.chmod(0o600)  # Ray writes it legible to every user of the machine
    return _measure(is_own)


def _start(quiet: dict[str, Any]) -> None:
    """Ray gives a machine 30 s to start it, which a busy one may need more than once.

    Raises: what ``ray.init`` raises; RunStopped where it did not start in time again.
    """
    for tries_left in (1, 0):
        try:
            ray.init(include_dashboard=False, object_store_memory=OBJECT_STORE_BYTES, **quiet)
            return
        except Exception as error:
            if "timed out during startup" not in str(error):
                raise
            if not tries_left:
                raise RunStopped(
                    "Ray did not start on this machine within 30 s, twice: it is very busy or short of memory (see "
                    "`uptime` and `free -h`); give the same command when it is quieter, and nothing is lost"
                ) from error
            say("Ray did not start within its 30 s, this machine is busy; once more")


def _measure(is_own: bool) -> Cluster:
    num_nodes = sum(node["Alive"] for node in ray.nodes())
    num_gpus = nodes.num_usable("GPU")
    return Cluster(nodes.num_usable("CPU"), num_gpus, num_nodes, num_gpus > 0 or nodes.may_start_gpus(), is_own)


def train_on(
    cluster: Cluster,
    function: Callable[[dict[str, Any]], Any],
    settings: dict[str, Any],
    config: RunConfig,
    run_folder: RunFolder,
) -> None:
    """Runs ``function(settings)``, which returns True, on every worker of a group that is rebuilt when one is lost.

    Raises: RunStopped with what a worker wrote into refused.txt in the run's folder, or if the group was lost more
        than ``config.max_failures`` times; KeyboardInterrupt.
    """
    failure: TrainingFailedError | None = None
    result: Any = None
    try:
        with watched(cluster.kind, config.min_workers or config.workers, config.workers, say) as callback:
            result = TorchTrainer(
                function,
                train_loop_config=settings,
                scaling_config=ScalingConfig(
                    num_workers=_width(config),
                    use_gpu=cluster.offers_gpus,
                    elastic_resize_monitor_interval_s=SECONDS_BETWEEN_WIDENINGS,  # type: ignore[call-arg]
                ),
                run_config=RayRunConfig(
                    name="ray",
                    storage_path=run_folder.place,
                    failure_config=FailureConfig(max_failures=config.max_failures),
                    callbacks=[callback],  # type: ignore[list-item]
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
        log = "".join(traceback.format_exception(failure))
        (run_folder.path / ERRORS_FILE).write_text(log, encoding="utf-8")
        run_folder.keep(ERRORS_FILE)
        raise RunStopped(f"{_cause(failure)}; the whole account is in {run_folder.named(ERRORS_FILE)}")
    if not result.return_value:
        raise KeyboardInterrupt


def _width(config: RunConfig) -> Any:
    """A fixed number of workers, or the range within which Ray follows what the cluster can give."""
    elastic = 0 < config.min_workers < config.workers
    return (config.min_workers, config.workers) if elastic else config.workers


def _cause(error: TrainingFailedError) -> str:
    """One line for a person: which worker, and what it said last."""
    if not isinstance(error, WorkerGroupError) or not error.worker_failures:
        return str(error).strip().splitlines()[-1]
    return failure_sentence(error.worker_failures)
