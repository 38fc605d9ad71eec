"""Timing, interleaved: every action meets the same machine."""

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


@dataclass
class CallTimes:
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
) -> dict[str, CallTimes]:
    """Every action ``repeats`` times, one after the other in each round, after one round to warm up."""
    for turn in range(repeats + 1):
        if turn <= 1:
            times: dict[str, CallTimes] = {}
        for name, action in actions.items():
            with stopwatch(name, times, device):
                action()
    return times


@contextmanager
def stopwatch(name: str, times: dict[str, CallTimes], device: torch.device | None = None) -> Iterator[None]:
    """Adds the block to the times of that name, the device's work included."""
    on_gpu = device is not None and device.type == "cuda"
    if on_gpu:
        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
    start, processor_start = time.perf_counter(), time.process_time()
    yield
    if on_gpu:
        torch.cuda.synchronize(device)
    found = times.setdefault(name, CallTimes())
    found.seconds.append(time.perf_counter() - start)
    found.processor_seconds.append(time.process_time() - processor_start)
    # ru_maxrss is bytes on a Mac, and kibibytes elsewhere.
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    found.memory = max(found.memory, torch.cuda.max_memory_allocated(device) if on_gpu else peak)


def matrix_rate(device: torch.device, dtype: torch.dtype, side: int = 2048) -> float:
    """Multiply-accumulates a second of one square product, the best of five; on a CPU a second of processor time."""
    left, right = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))
    times = interleaved({"product": lambda: left @ right}, 5, device)["product"]
    return side**3 / min(times.seconds if device.type == "cuda" else times.processor_seconds)


def machine(device: torch.device) -> dict[str, object]:
    """What was measured on."""
    on = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.processor() or platform.machine()
    return {
        "device": on,
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "python": sys.version.split()[0],
    }
