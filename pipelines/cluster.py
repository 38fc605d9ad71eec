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
from pipelines.command_line import RunStopped
from pipelines.run_folder import REFUSAL_FILE

# Only small things pass through Ray's object store: batches are read from memory-mapped packs by the workers.
OBJECT_STORE_BYTES = 128 * 2**20


@dataclass(frozen=True)
class Cluster:
    """What Ray can give."""

    num_cpus: int
    num_gpus: int
    num_nodes: int

    def check(self, workers: int) -> None:
        """Raises: ValueError if there are more workers than GPUs or, where there is no GPU, than CPUs."""
        kind, there = ("GPU", self.num_gpus) if self.num_gpus else ("CPU", self.num_cpus)
        if workers > there:
            raise ValueError(
                f"--workers {workers} takes as many {kind}s and there {'is' if there == 1 else 'are'} {there}; "
                f"give --workers {there} or fewer, or join more nodes to the cluster"
            )


def connect() -> Cluster:
    """The cluster of RAY_ADDRESS, else the one that ``ray start`` left on this machine, else one of our own."""
    for name, value in {
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_TRAIN_ENABLE_PRINT_PATCH": "0",
    }.items():
        os.environ.setdefault(name, value)
    logging.getLogger("ray.train").setLevel(logging.ERROR)
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    if not ray.is_initialized():
        try:
            ray.init(include_dashboard=False, object_store_memory=OBJECT_STORE_BYTES, **quiet)
        except ValueError as error:
            if "existing cluster" not in str(error):
                raise
            ray.init(address="auto", **quiet)
        except ConnectionError as error:
            raise ValueError(
                f"no Ray cluster answers at RAY_ADDRESS {os.environ.get('RAY_ADDRESS')} ({error})"
            ) from error
    token = Path.home() / ".ray" / "auth_token"
    if token.is_file() and token.stat().st_uid == os.getuid() and token.stat().st_mode & 0o077:
        token.chmod(0o600)  # Ray writes it legible to every user of the machine
    there = ray.cluster_resources()
    return Cluster(int(there.get("CPU", 0)), int(there.get("GPU", 0)), sum(node["Alive"] for node in ray.nodes()))


def train_on(
    cluster: Cluster,
    function: Callable[[dict[str, Any]], Any],
    settings: dict[str, Any],
    config: RunConfig,
    run_folder: Path,
) -> None:
    """Runs ``function(settings)``, which returns True, on every worker of a group that is rebuilt when one is lost.

    Raises: RunStopped with what a worker wrote into refused.txt in the run's folder, or if the group was lost more
        than ``config.max_failures`` times; KeyboardInterrupt.
    """
    trainer = TorchTrainer(
        function,
        train_loop_config=settings,
        scaling_config=ScalingConfig(num_workers=config.workers, use_gpu=cluster.num_gpus > 0),
        run_config=RayRunConfig(
            name="ray", storage_path=str(run_folder), failure_config=FailureConfig(max_failures=config.max_failures)
        ),
    )
    failure: TrainingFailedError | None = None
    result: Any = None
    try:
        result = trainer.fit()
    except TrainingFailedError as error:
        failure = error
    except SystemExit:  # how Ray leaves after Ctrl-C
        raise KeyboardInterrupt from None
    if (run_folder / REFUSAL_FILE).exists():
        raise RunStopped((run_folder / REFUSAL_FILE).read_text(encoding="utf-8"))
    if failure is not None:
        log = run_folder / "errors.txt"
        log.write_text("".join(traceback.format_exception(failure)), encoding="utf-8")
        raise RunStopped(f"{_cause(failure)}; the whole account is in {log}")
    if not result.return_value:
        raise KeyboardInterrupt


def _cause(error: TrainingFailedError) -> str:
    """One line for a person: which worker, and what it said last."""
    if not isinstance(error, WorkerGroupError) or not error.worker_failures:
        return str(error).strip().splitlines()[-1]
    rank, failure = next(iter(sorted(error.worker_failures.items())))
    cause = getattr(failure, "cause", None) or failure
    return f"worker {rank} failed with {type(cause).__name__}: {str(cause).strip().splitlines()[0]}"
