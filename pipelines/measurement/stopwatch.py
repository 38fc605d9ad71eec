"""Timing in turns: every action meets the same machine."""

from __future__ import annotations

import platform
import resource
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch


@dataclass(frozen=True)
class Timing:
    """One action's repeats.

    Attributes:
        seconds: of each, on the clock.
        processor_seconds: of each, of this process: what others do on the machine does not count.
        memory: peak bytes: of a GPU's memory during the action; on a CPU, of the whole process so far.
    """

    seconds: list[float] = field(default_factory=list)
    processor_seconds: list[float] = field(default_factory=list)
    memory: int = 0

    @property
    def median(self) -> float:
        return statistics.median(self.seconds)


def interleaved(
    actions: Mapping[str, Callable[[], object]], repeats: int, device: torch.device | None = None
) -> dict[str, Timing]:
    """Every action ``repeats`` times, in turns, after one round to warm up."""
    timings: dict[str, Timing] = {}
    for turn in range(repeats + 1):
        for name, action in actions.items():
            with stopwatch(name, timings, device):
                action()
            if turn == 0:
                timings[name].seconds.clear()
                timings[name].processor_seconds.clear()
    return timings


@contextmanager
def stopwatch(name: str, timings: dict[str, Timing], device: torch.device | None = None) -> Iterator[None]:
    """Adds the block to the timings of that name, the device's work included."""
    on_gpu = device is not None and device.type == "cuda"
    if on_gpu:
        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
    start, processor_start = time.perf_counter(), time.process_time()
    yield
    if on_gpu:
        torch.cuda.synchronize(device)
    seconds, processor_seconds = time.perf_counter() - start, time.process_time() - processor_start
    before = timings.get(name, Timing())
    memory = torch.cuda.max_memory_allocated(device) if on_gpu else _peak_of_process()
    timings[name] = Timing(
        [*before.seconds, seconds], [*before.processor_seconds, processor_seconds], max(memory, before.memory)
    )


def _peak_of_process() -> int:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak


def matrix_rate(device: torch.device, dtype: torch.dtype, side: int = 2048) -> float:
    """Multiply-accumulates a second of one square product, the best of five; on a CPU a second of processor time."""
    left, right = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))
    timing = interleaved({"product": lambda: left @ right}, 5, device)["product"]
    return side**3 / min(timing.seconds if device.type == "cuda" else timing.processor_seconds)


def machine(device: torch.device) -> dict[str, object]:
    """What was measured on."""
    on = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.processor() or platform.machine()
    return {
        "device": on,
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "python": sys.version.split()[0],
    }
