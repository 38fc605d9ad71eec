"""How fast the parts of a training are on this machine.  python -m benchmarks.speed_of_training --help"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Literal

import torch
import tyro

from benchmarks.speed_table import SpeedTable, tell_speeds
from benchmarks.step import (
    Bench,
    gather_table,
    phase_table,
    sequence_table,
    teacher_sequence_table,
    train_table,
)
from benchmarks.stopwatch import machine
from kdltr_core.data.pack import build_pack
from kdltr_core.data.synth.render import render_words
from pipelines.recipes import RECIPES
from pipelines.run.command_line import answer_mistakes
from pipelines.run.progress import progress_bar, say

SectionName = Literal["gather", "sequence", "train", "phases"]


@dataclass(frozen=True)
class BenchmarkConfig:
    """What to measure, and on what."""

    sections: tuple[SectionName, ...] = ("gather", "sequence", "train", "phases")
    """gather: pairs from the pack; sequence: sequence targets; train: training steps; phases: where a step's time
    goes. The first row of each is the reference"""
    root: Path | None = None
    """an LMDB of word images; none: pairs are rendered"""
    num_pairs: int = 4000
    """rendered where no root is given"""
    recipes: tuple[str, ...] = ("parseq_tiny_ltr",)
    """whose steps are measured, one after the other"""
    batch_size: int = 64
    """pairs in a batch"""
    repeats: int = 5
    """timed rounds after one to warm up; median and quartiles are told"""
    num_threads: int = field(default_factory=torch.get_num_threads)
    """of torch; gathering always uses one"""
    device: Literal["cpu", "cuda"] = "cuda" if torch.cuda.is_available() else "cpu"
    """of sequence targets and training step"""
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """of the forward passes; auto: bfloat16 on a GPU or a CPU that multiplies it natively"""
    output: Path = Path("runs/benchmark")
    """folder for speed.json and speed.md"""


def main(config: BenchmarkConfig) -> int:
    if config.repeats < 1 or config.batch_size < 1 or config.num_pairs < 1 or config.num_threads < 1:
        raise ValueError("repeats, batch_size, num_pairs and num_threads must each be at least 1")
    if config.device == "cuda" and not torch.cuda.is_available():
        raise ValueError("device is 'cuda' and torch sees no GPU here; leave --device out or give cpu")
    if unknown := [recipe for recipe in config.recipes if recipe not in RECIPES or not recipe.endswith("_ltr")]:
        known = ", ".join(recipe for recipe in RECIPES if recipe.endswith("_ltr"))
        raise ValueError(f"recipes {', '.join(unknown)}: expected some of {known}")
    device = torch.device(config.device)
    torch.set_num_threads(config.num_threads)
    with tempfile.TemporaryDirectory(prefix="kdltr-benchmark-") as scratch:
        tables = list(_measure(config, Path(scratch), device))
    tell_speeds(config.output, "speed", "# Speed", machine(device), tables)
    return 0


def _measure(config: BenchmarkConfig, scratch: Path, device: torch.device) -> Iterator[SpeedTable]:
    root, precision = config.root, config.precision
    if root is None:
        root = scratch / "rendered"
        render_words(root, config.num_pairs, seed=0, progress=progress_bar("rendering"))
    pack = build_pack(root, cache_folder=scratch / "packs")
    for name in config.sections:
        say(f"measuring {name}")
        if name == "gather":
            yield gather_table(root, scratch / "packs", config.batch_size, config.repeats)
            continue
        if name == "sequence":
            yield from (sequence_table(config.repeats, device, margin) for margin in (14.0, 10.0, 9.0))
            probs = Bench(RECIPES["parseq_tiny_ltr"](), pack, 64, device).softened(num_steps=26, temperature=4.0)
            yield teacher_sequence_table(probs, f"bundled teacher on {pack.name}", config.repeats, device)
            continue
        for recipe in config.recipes:
            make = partial(Bench, RECIPES[recipe](), pack, config.batch_size, device)
            if name == "train":
                yield train_table(make, config.repeats, precision)
            else:
                yield phase_table(make(), config.repeats, precision)


if __name__ == "__main__":
    sys.exit(answer_mistakes(lambda: main(tyro.cli(BenchmarkConfig, description=__doc__))))
