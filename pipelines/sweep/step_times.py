"""What a training step takes with the teacher's outputs kept, and with the teacher asked anew."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from kdltr_core.config import RunConfig
from kdltr_core.data.dataset import Datasets, TrainingPairs
from kdltr_core.distributed import DistributedContext
from kdltr_core.train.engine import fit

# Short runs, interleaved, so that what else the machine does falls on both; the first step of each does not count.
NUM_RUNS, NUM_STEPS = 2, 3


def measure_step_times(config: RunConfig, words: Datasets, world: DistributedContext) -> dict[str, float]:
    """Median seconds of a step in one process, by ``data.teacher_cache``; the outputs are best made before.

    On a CPU they are the processor's, which other work on the machine does not lengthen; on a GPU the clock's.

    Raises: as ``fit``.
    """
    one = TrainingPairs(words.train.packs[:1], np.arange(1), "none", "one word")  # to read more would only take time
    words = replace(words, validation=one)
    clock = time.process_time if world.device.type == "cpu" else time.perf_counter
    short: dict[str, Any] = {"num_steps": NUM_STEPS, "log_every": 1, "benchmark_every": 0}
    short |= {"validate_every": NUM_STEPS, "checkpoint_every": NUM_STEPS}
    seconds: dict[str, list[float]] = {"on": [], "off": []}
    for _ in range(NUM_RUNS):
        for cache, times in seconds.items():
            ends: list[float] = []

            def record(step: int, values: Mapping[str, float], ends: list[float] = ends) -> None:
                if "train/loss" in values:
                    ends.append(clock())

            with TemporaryDirectory(prefix="kdltr-steps-") as folder:
                fit(
                    config.override(short | {"data.teacher_cache": cache}),
                    words,
                    run_folder=Path(folder),
                    record=record,
                    world=world,
                )
            times += np.diff(ends).tolist()
    return {cache: median(times) for cache, times in seconds.items()}


def tell_step_times(times: Mapping[str, float]) -> str:
    """What was measured, in a sentence."""
    kept, anew = times["on"], times["off"]
    return (
        f"A training step takes {kept:.3g} s with the teacher's outputs kept and {anew:.3g} s with the teacher asked "
        f"anew, {anew / kept:.2f} times as long (median of {NUM_RUNS * (NUM_STEPS - 1)} steps each, on a CPU of the "
        "processor's time)."
    )
