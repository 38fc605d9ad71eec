"""The fast step's loss beside the float32 reference's, and beside another seed's.

python -m benchmarks.loss_curves --help
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
import torch
import tyro

from benchmarks.speed_table import tell
from benchmarks.step import Bench
from kdltr_core.data.pack import Pack, build_pack
from kdltr_core.data.synth.render import render_words
from kdltr_core.train.optim import rate_factor, set_rates
from pipelines.recipes import parseq_tiny_ltr
from pipelines.run.command_line import answer_mistakes
from pipelines.run.progress import progress_bar


@dataclass(frozen=True)
class CurveConfig:
    """The default recipe's student, trained in both ways on the same rendered words in the same order."""

    num_steps: int = 40
    """of every training"""
    batch_size: int = 16
    """pairs in a batch"""
    num_threads: int = field(default_factory=torch.get_num_threads)
    """of torch"""
    device: Literal["cpu", "cuda"] = "cuda" if torch.cuda.is_available() else "cpu"
    """where it is trained"""
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """of the fast step's forward passes"""
    output: Path = Path("runs/loss_curves")
    """folder for curves.json and curves.md"""


def main(config: CurveConfig) -> int:
    if min(config.num_steps, config.batch_size, config.num_threads) < 1:
        raise ValueError("num_steps, batch_size and num_threads must each be at least 1")
    torch.set_num_threads(config.num_threads)
    with tempfile.TemporaryDirectory(prefix="kdltr-curves-") as scratch:
        root = Path(scratch) / "rendered"
        render_words(root, config.num_steps * config.batch_size, seed=0, progress=progress_bar("rendering"))
        pack = build_pack(root, cache_folder=Path(scratch) / "packs", degradation="interlaced")
        ways = {f"{way}, seed {seed}": (way, seed) for seed in (0, 1) for way in ("reference", "fast")}
        curves = {name: train_curve(config, pack, *how, label=name) for name, how in ways.items()}
    tell(config.output, "curves", curves, curves_markdown(curves))
    return 0


def train_curve(config: CurveConfig, pack: Pack, way: str, seed: int, label: str = "") -> list[float]:
    """Losses of every step. The seed is that of dropout and of the decoding orders; words and weights are the same."""
    bench = Bench(parseq_tiny_ltr(), pack, config.batch_size, torch.device(config.device))
    order = np.random.default_rng(0).permutation(len(pack))
    progress, losses = progress_bar(label), []
    for step in range(config.num_steps):
        bench.rows = order[step * config.batch_size : (step + 1) * config.batch_size]
        bench.order_seed = 1000 * seed + step
        torch.manual_seed(1000 * seed + step)
        set_rates(bench.optimiser, rate_factor(bench.config.optim, step, config.num_steps, 1.0))
        loss = bench.reference() if way == "reference" else bench.fast(config.precision)
        losses.append(loss.total.item())
        progress(step + 1, config.num_steps)
    return losses


def curves_markdown(curves: Mapping[str, list[float]], width: int = 10) -> str:
    """Means over stretches of steps, and the mean distance of two curves: of the two ways, and of two seeds."""
    lines = ["# Loss of the reference and of the fast step", "", "| steps | " + " | ".join(curves) + " |"]
    lines.append("|---|" + "---:|" * len(curves))
    num_steps = len(next(iter(curves.values())))
    for start in range(0, num_steps, width):
        stop = min(start + width, num_steps)
        means = " | ".join(f"{np.mean(losses[start:stop]):.3f}" for losses in curves.values())
        lines.append(f"| {start + 1}–{stop} | {means} |")
    lines += ["", "Mean distance at the same step, as a fraction of the loss:", ""]
    for one, other in (("reference, seed 0", "fast, seed 0"), ("reference, seed 0", "reference, seed 1")):
        gap = np.abs(np.subtract(curves[one], curves[other])).mean() / np.mean(curves[one])
        lines.append(f"- {one} and {other}: {100 * gap:.2f} %")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    given = tyro.cli(CurveConfig, prog="python -m benchmarks.loss_curves", description=CurveConfig.__doc__)
    sys.exit(answer_mistakes(lambda: main(given)))
