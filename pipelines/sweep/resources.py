"""What a trial takes of the machines, and how many there is room for."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pipelines.sweep.options import TrialOptions

if TYPE_CHECKING:
    from pipelines.ray_train.cluster import Cluster


@dataclass(frozen=True)
class TrialResources:
    """What one trial takes, in Ray's words, and how many there is room for."""

    of_a_trial: Mapping[str, float]
    num_at_a_time: int


def machines_for(options: TrialOptions, offers_gpus: bool) -> tuple[int, int]:
    """How many GPUs, or CPUs, the trials that are to run at a time take, and how many one trial does."""
    units = (options.gpus_per_trial or 1.0) if offers_gpus else options.cpus_per_trial
    return math.ceil(max(options.trials_at_a_time, 1) * units - 1e-9), math.ceil(units)


def resources_for(options: TrialOptions, cluster: Cluster) -> TrialResources:
    """Raises: ValueError if not even one trial fits."""
    cpus, gpus = options.cpus_per_trial, options.gpus_per_trial or (1.0 if cluster.offers_gpus else 0.0)
    num = cluster.num_cpus // cpus
    if gpus:
        num = min(num, cluster.num_gpus * int(1 / gpus + 1e-9))
    if num < 1:
        raise ValueError(
            f"no trial fits: one takes --cpus-per-trial {cpus}{f' and --gpus-per-trial {gpus:g}' if gpus else ''}, and "
            f"there are {cluster.num_cpus} CPUs and {cluster.num_gpus} GPUs; ask for less, or join more nodes to the "
            "cluster"
        )
    return TrialResources({"cpu": cpus, **({"gpu": gpus} if gpus else {})}, min(num, options.trials_at_a_time or num))
