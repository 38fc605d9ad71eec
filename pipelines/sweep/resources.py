"""What a trial takes of the machines, how many there is room for, and what it gives back when it ends or is lost."""

from __future__ import annotations

import ctypes
import gc
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from ray._common.utils import hex_to_binary
from ray._raylet import PlacementGroupID
from ray.util import get_current_placement_group, remove_placement_group
from ray.util.placement_group import PlacementGroup

from kdltr_core.config import RunConfig
from pipelines.sweep.options import TrialOptions

if TYPE_CHECKING:
    from pipelines.ray_train.cluster import Cluster

# A trial with workers of its own does nothing but wait for them, yet Ray wants it to take something. Less than a core
# each, so that two workers and their trial find room on two cores.
WAITING_CPUS, WORKER_CPUS = 0.1, 0.95
PLACEMENT_FILE = "placement_group.txt"


@dataclass(frozen=True)
class TrialResources:
    """What one trial takes, in Ray's words, how many there is room for, and what ``run_trial`` is told of it."""

    of_a_trial: Mapping[str, float]
    num_at_a_time: int
    settings: Mapping[str, Any]


def machines_for(options: TrialOptions, config: RunConfig, offers_gpus: bool) -> RunConfig:
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


def resources_for(options: TrialOptions, cluster: Cluster) -> TrialResources:
    """Raises: ValueError if not even one trial fits."""
    if options.workers_per_trial:
        workers, use_gpu = options.workers_per_trial, cluster.offers_gpus
        num = cluster.num_gpus // workers if use_gpu else int(cluster.num_cpus / (workers * WORKER_CPUS + WAITING_CPUS))
        taken = {"cpu": WAITING_CPUS}
        wanted = f"--workers-per-trial {workers}, {'a GPU' if use_gpu else 'a CPU'} each"
    else:
        gpus = options.gpus_per_trial or (1.0 if cluster.offers_gpus else 0.0)
        num, workers, use_gpu = cluster.num_cpus // options.cpus_per_trial, 0, gpus > 0
        if gpus:
            on_gpus = cluster.num_gpus * int(1 / gpus + 1e-9) if gpus <= 1 else int(cluster.num_gpus // gpus)
            num = min(num, on_gpus)
        taken = {"cpu": options.cpus_per_trial, **({"gpu": gpus} if gpus else {})}
        wanted = f"--cpus-per-trial {options.cpus_per_trial}" + (f" and --gpus-per-trial {gpus:g}" if gpus else "")
    if num < 1:
        raise ValueError(
            f"no trial fits: one takes {wanted}, and there are {cluster.num_cpus} CPUs and {cluster.num_gpus} GPUs; "
            "ask for less, or join more nodes to the cluster"
        )
    settings = {"threads": options.cpus_per_trial, "workers": workers, "use_gpu": use_gpu}
    return TrialResources(taken, min(num, options.trials_at_a_time or num), settings)


def note_placement(folder: Path) -> None:
    """On one worker of the trial in this folder, when it begins: what its workers hold of the cluster."""
    group = get_current_placement_group()
    if group is not None:
        (folder / PLACEMENT_FILE).write_text(group.id.hex(), encoding="utf-8")


def release_placement(folder: Path) -> None:
    """Ends the workers of the trial in this folder, if there are any left, and frees what they held.

    Ray does so by itself only where its dashboard runs, which a small cluster of this machine's own is without.
    """
    note = folder / PLACEMENT_FILE
    if note.exists():
        remove_placement_group(PlacementGroup(PlacementGroupID(hex_to_binary(note.read_text(encoding="utf-8")))))
        note.unlink()


def give_back_memory() -> None:
    """To the system, and to others on the GPU: what this process holds and does not use.

    A trial runs in a thread of its own. In a process with as many threads as Ray's has, the C library of Linux gives
    most trials another heap than the one before, and gives a heap back from its end only: each keeps the most that a
    trial ever took.
    """
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc's; others give back by themselves
    if trim is not None:
        trim(0)
