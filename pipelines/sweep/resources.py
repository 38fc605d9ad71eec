"""What a trial of a sweep takes, and how many trials there is room for."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from kdltr_core.config import RunConfig
from pipelines.sweep.options import SweepOptions

if TYPE_CHECKING:
    from pipelines.ray_train.cluster import Cluster

# A trial with workers of its own does nothing but wait for them, yet Ray wants it to take something. Less than a core
# each, so that two workers and their trial find room on two cores.
WAITING_CPUS, WORKER_CPUS = 0.1, 0.95


@dataclass(frozen=True)
class Room:
    """What one trial takes, in Ray's words, and how many there is room for."""

    resources: Mapping[str, float]
    num_at_a_time: int
    settings: Mapping[str, Any]


def machines_for(options: SweepOptions, config: RunConfig, offers_gpus: bool) -> RunConfig:
    """A run with as many workers as the trials take GPUs or CPUs, which could do with those of one trial.

    For ``Cluster.prepare``, which waits for the machines of such a run; it is not trained.
    """
    if options.workers_per_trial:
        units: float = options.workers_per_trial
    else:
        units = (options.gpus_per_trial or 1.0) if offers_gpus else options.cpus_per_trial
    fewest, wanted = math.ceil(units), math.ceil(max(options.trials_at_a_time, 1) * units - 1e-9)
    changes = {"workers": wanted, "min_workers": fewest, "optim.batch_size": wanted, "optim.batch_norm": "per_worker"}
    return config.override(changes)


def room_for(options: SweepOptions, cluster: Cluster) -> Room:
    """Raises: ValueError if not even one trial fits."""
    if options.workers_per_trial:
        workers, use_gpu = options.workers_per_trial, cluster.offers_gpus
        num = cluster.num_gpus // workers if use_gpu else int(cluster.num_cpus / (workers * WORKER_CPUS + WAITING_CPUS))
        resources = {"cpu": WAITING_CPUS}
        wanted = f"--workers-per-trial {workers}, {'a GPU' if use_gpu else 'a CPU'} each"
    else:
        gpus = options.gpus_per_trial or (1.0 if cluster.offers_gpus else 0.0)
        num, workers, use_gpu = cluster.num_cpus // options.cpus_per_trial, 0, gpus > 0
        if gpus:
            on_gpus = cluster.num_gpus * int(1 / gpus + 1e-9) if gpus <= 1 else int(cluster.num_gpus // gpus)
            num = min(num, on_gpus)
        resources = {"cpu": options.cpus_per_trial, **({"gpu": gpus} if gpus else {})}
        wanted = f"--cpus-per-trial {options.cpus_per_trial}" + (f" and --gpus-per-trial {gpus:g}" if gpus else "")
    if num < 1:
        raise ValueError(
            f"no trial fits: one takes {wanted}, and there are {cluster.num_cpus} CPUs and {cluster.num_gpus} GPUs; "
            "ask for less, or join more nodes to the cluster"
        )
    num = min(num, options.trials_at_a_time or num)
    settings = {"threads": options.cpus_per_trial, "workers": workers, "use_gpu": use_gpu}
    return Room(resources, num, settings)
