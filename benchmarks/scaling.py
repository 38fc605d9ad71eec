"""How a training step scales: measured on this machine, and a model for more GPUs.  python -m benchmarks.scaling --help

Every worker has as many pairs. The model adds to a step a ring all-reduce of all gradients, none of it hidden behind
the backward pass: each worker sends 2 (W - 1) / W times their bytes (Patarasu & Yuan 2009).
"""

from __future__ import annotations

import itertools
import statistics
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
import tyro

from kdltr_core.config import ObjectiveConfig, OptimConfig, RecognizerName
from kdltr_core.data.batch import encode_targets
from kdltr_core.device import autocast
from kdltr_core.distributed import DistributedContext
from kdltr_core.recognizers import build_student, build_teacher
from kdltr_core.recognizers.permutations import sample_permutations
from kdltr_core.train.distiller import Distiller, teach
from kdltr_core.train.optim import Gradients, build_optimiser
from kdltr_core.train.step import unused_parameters
from pipelines.run.command_line import answer_mistakes
from pipelines.run.progress import say


@dataclass(frozen=True)
class ScalingOptions:
    """What to measure, and what to work out from it."""

    recognizer: RecognizerName = "parseq_tiny"
    """teacher and student, with random weights: speed does not depend on them"""
    pairs: int = 16
    """pairs of every worker"""
    workers: tuple[int, ...] = (1, 2)
    """numbers of workers measured here, over gloo; each has as many cores as there are for the largest number"""
    repeats: int = 5
    """timed steps after one to warm up; the median counts"""
    step_seconds: float = 0.0
    """of one GPU's step, for the model; 0: as measured here with one worker"""
    gpus: tuple[int, ...] = (8, 64)
    """of the model"""
    gigabits: tuple[float, ...] = (25.0, 100.0)
    """of the model: what a machine sends in a second, 10⁹ bits"""


def all_reduce_seconds(num_bytes: float, num_workers: int, gigabits: float) -> float:
    """Of a ring all-reduce over links of so many 10⁹ bits a second, without latency."""
    return 2 * (num_workers - 1) / num_workers * num_bytes * 8 / (gigabits * 1e9)


def main() -> int:
    options = tyro.cli(ScalingOptions, prog="python -m benchmarks.scaling", description=ScalingOptions.__doc__)
    if min(*options.workers, options.pairs, options.repeats) < 1:
        raise ValueError("workers, pairs and repeats must each be at least 1")
    seconds, num_parameters = {}, 0
    for num_workers in options.workers:
        say(f"measuring {num_workers} worker(s)")
        with tempfile.TemporaryDirectory(prefix="kdltr-scaling-") as scratch:
            mp.spawn(_measure, (num_workers, options, scratch), nprocs=num_workers)
            seconds[num_workers], num_parameters = torch.load(Path(scratch) / "measured.pt")
    first = options.workers[0]
    print(f"## {options.recognizer}, {options.pairs} pairs a worker, on this machine\n")
    print("| workers | step, s | images/s | against one worker's |\n|---:|---:|---:|---:|")
    for number, step in seconds.items():
        ratio = (number / step) / (first / seconds[first])
        print(f"| {number} | {step:.2f} | {number * options.pairs / step:.1f} | {ratio:.2f} |")
    step = options.step_seconds or seconds[first]
    print(f"\n## Model: a step of {step:.3f} s, {num_parameters / 1e6:.2f} M gradients, nothing hidden\n")
    print("| GPUs | Gbit/s | MB | all-reduce, ms | fraction of the step that is work |")
    print("|---:|---:|---:|---:|---:|")
    num_bytes = 4 * num_parameters
    for num_gpus, gigabits in itertools.product(options.gpus, options.gigabits):
        exchange = all_reduce_seconds(num_bytes, num_gpus, gigabits)
        line = (num_gpus, f"{gigabits:g}", f"{num_bytes / 1e6:.1f}", f"{1e3 * exchange:.1f}")
        print(f"| {' | '.join(map(str, line))} | {100 * step / (step + exchange):.0f} % |")
    return 0


def _measure(rank: int, num_workers: int, options: ScalingOptions, scratch: str) -> None:
    torch.set_num_threads(max(1, torch.get_num_threads() // max(options.workers)))
    dist.init_process_group("gloo", init_method=f"file://{scratch}/rendezvous", rank=rank, world_size=num_workers)
    world, config = DistributedContext(rank, num_workers), ObjectiveConfig()
    teacher = build_teacher(options.recognizer).eval().requires_grad_(False)
    distiller = Distiller(build_student(options.recognizer), config)
    targets, lengths = encode_targets(["scaling"] * options.pairs, teacher.charset, teacher.fixed_num_steps)
    orders = sample_permutations(len("scaling"), config.num_permutations, torch.Generator().manual_seed(0))
    high_res, low_res = (torch.zeros(options.pairs, 3, *size, dtype=torch.uint8) for size in ((32, 128), (16, 64)))
    taught = teach(teacher, high_res, targets, orders)
    for name in unused_parameters(distiller, distiller(low_res, targets, lengths, orders, taught).total):
        distiller.get_parameter(name).requires_grad_(False)
    optimiser, gradients = build_optimiser(distiller, OptimConfig()), Gradients(distiller)
    times = []
    for _ in range(options.repeats + 1):
        world.barrier()
        start = time.perf_counter()
        with autocast(world.device, "auto"):
            taught = teach(teacher, high_res, targets, orders)
            loss = distiller(low_res, targets, lengths, orders, taught)
        gradients.joined.zero_()
        gradients.add(loss.total / num_workers)
        world.all_reduce(gradients.joined)
        optimiser.step()
        world.barrier()
        times.append(time.perf_counter() - start)
    if world.is_main:
        torch.save((statistics.median(times[1:]), gradients.joined.numel()), Path(scratch) / "measured.pt")
    dist.destroy_process_group()


if __name__ == "__main__":
    sys.exit(answer_mistakes(main))
