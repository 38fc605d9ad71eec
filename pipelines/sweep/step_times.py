"""What a training step takes with the teacher's outputs kept, and with the teacher asked anew."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import median

import numpy as np

from kdltr_core.config import RunConfig
from kdltr_core.data.dataset import Datasets, TrainingPairs
from kdltr_core.distributed import DistributedContext
from kdltr_core.files import write_text
from kdltr_core.train.engine import fit

# Short runs by turns, so that what else the machine does falls on both; the first step of each does not count.
NUM_RUNS, NUM_STEPS = 2, 3


@dataclass(frozen=True)
class StepTimes:
    """Median seconds of a step in one process.

    On a CPU they are the processor's, which other work on the machine does not lengthen; on a GPU the clock's.

    Attributes:
        kept: with the teacher's outputs read from the disk.
        anew: with the teacher's forward pass.
        batch_size: pairs a step.
        is_processor_time: of all threads of the process.
    """

    kept: float
    anew: float
    batch_size: int
    is_processor_time: bool

    @property
    def sentence(self) -> str:
        seconds = "s of the processor" if self.is_processor_time else "s"
        return (
            f"A training step of {self.batch_size} pairs takes {self.kept:.3g} {seconds} with the teacher's outputs "
            f"kept and {self.anew:.3g} s with the teacher asked anew, {self.anew / self.kept:.2f} times as long "
            f"(median of {NUM_RUNS * (NUM_STEPS - 1)} steps each, in one process)."
        )

    @classmethod
    def read(cls, path: Path) -> StepTimes | None:
        """What ``write`` wrote; None for nothing yet."""
        try:
            return cls(**json.loads(path.read_text(encoding="utf-8")))
        except (OSError, json.JSONDecodeError, TypeError):
            return None

    def write(self, path: Path) -> None:
        write_text(path, json.dumps(asdict(self)))


def measure_step_times(config: RunConfig, words: Datasets, folder: Path, world: DistributedContext) -> StepTimes:
    """Trains a few steps either way, in folders under ``folder``; the lessons are best made before.

    Raises: as ``fit``.
    """
    one = TrainingPairs(words.train.packs[:1], np.arange(1), "none", "one word")  # to read more would only take time
    words = replace(words, validation=one)
    seconds: dict[str, list[float]] = {"on": [], "off": []}
    is_processor_time = world.device.type == "cpu"
    clock, since = time.process_time if is_processor_time else time.perf_counter, 0.0
    for _ in range(NUM_RUNS):
        for cache, times in seconds.items():

            def record(step: int, values: Mapping[str, float], times: list[float] = times) -> None:
                nonlocal since
                if "train/loss" in values:
                    now = clock()
                    if step > 1:
                        times.append(now - since)
                    since = now

            short = config.override(
                {
                    "data.teacher_cache": cache,
                    "num_steps": NUM_STEPS,
                    "log_every": 1,
                    "validate_every": NUM_STEPS,
                    "checkpoint_every": NUM_STEPS,
                    "benchmark_every": 0,
                }
            )
            fit(short, words, run_folder=folder / cache, record=record, world=world)
            shutil.rmtree(folder / cache)
    kept, anew = median(seconds["on"]), median(seconds["off"])
    return StepTimes(kept, anew, config.optim.batch_size, is_processor_time)
