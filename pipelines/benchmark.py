"""How fast the parts are on this machine, and how large.  python pipelines/benchmark.py --help"""

from __future__ import annotations

import json
import platform
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
import tyro

from kdltr_core.config import RecognizerName
from kdltr_core.data.packed import build_pack
from kdltr_core.data.render import render_pairs
from pipelines import complexity_table
from pipelines.command_line import answer_mistakes
from pipelines.complexity import describe_all
from pipelines.progress import progress_bar, say
from pipelines.speed import gather_section, sequence_section, step_section
from pipelines.speed_table import Section, to_json, to_markdown

SectionName = Literal["gather", "sequence", "step"]


@dataclass(frozen=True)
class BenchmarkConfig:
    """What to measure, and on what."""

    sections: tuple[SectionName, ...] = ("gather", "sequence", "step")
    """gather: pairs from the pack; sequence: sequence targets; step: a training step by phase"""
    root: Path | None = None
    """an LMDB of word images; none: pairs are rendered"""
    num_pairs: int = 4000
    """rendered where no root is given"""
    recognizer: RecognizerName = "parseq_tiny"
    """teacher and student of the training step"""
    batch_size: int = 64
    """pairs in a batch"""
    repeats: int = 5
    """timed rounds after one to warm up; the median counts"""
    num_threads: int = field(default_factory=torch.get_num_threads)
    """of torch; gathering always uses one"""
    device: Literal["cpu", "cuda"] = "cuda" if torch.cuda.is_available() else "cpu"
    """of sequence targets and training step"""
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """of the forward passes; auto: bfloat16 on a GPU, float32 on a CPU"""
    describe: bool = False
    """count parameters and multiply-accumulates of every recognizer instead; no other option but output matters"""
    output: Path = Path("runs/benchmark")
    """folder for speed.json and speed.md, or complexity.json and complexity.md"""


def main(config: BenchmarkConfig) -> int:
    if config.repeats < 1 or config.batch_size < 1 or config.num_pairs < 1 or config.num_threads < 1:
        raise ValueError("repeats, batch_size, num_pairs and num_threads must each be at least 1")
    if config.device == "cuda" and not torch.cuda.is_available():
        raise ValueError("device is 'cuda' and torch sees no GPU here; leave --device out or give cpu")
    device = torch.device(config.device)
    torch.set_num_threads(config.num_threads)
    config.output.mkdir(parents=True, exist_ok=True)
    if config.describe:
        rows = describe_all(progress_bar("counting"))
        _write(config.output, "complexity", complexity_table.to_json(rows), complexity_table.to_markdown(rows))
        return 0
    with tempfile.TemporaryDirectory(prefix="kdltr-benchmark-") as scratch:
        sections = list(_measure(config, Path(scratch), device))
    machine = _machine(device)
    _write(config.output, "speed", to_json(sections, machine), to_markdown(sections, machine))
    return 0


def _write(folder: Path, name: str, figures: Any, table: str) -> None:
    (folder / f"{name}.json").write_text(json.dumps(figures, indent=2) + "\n")
    (folder / f"{name}.md").write_text(table)
    print(table)


def _measure(config: BenchmarkConfig, scratch: Path, device: torch.device) -> list[Section]:
    root = config.root
    if root is None and {"gather", "step"} & set(config.sections):
        root = scratch / "rendered"
        render_pairs(root, config.num_pairs, seed=0, progress=progress_bar("rendering"))
    sections = []
    for name in config.sections:
        say(f"measuring {name}")
        if name == "sequence":
            sections.append(sequence_section(config.repeats, device))
            continue
        assert root is not None
        if name == "gather":
            sections.append(gather_section(root, scratch / "packs", config.batch_size, config.repeats))
        else:
            pack = build_pack(root, cache_folder=scratch / "packs")
            sections.append(
                step_section(pack, config.recognizer, config.batch_size, config.repeats, device, config.precision)
            )
    return sections


def _machine(device: torch.device) -> dict[str, Any]:
    on = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.processor() or platform.machine()
    return {
        "device": on,
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "python": sys.version.split()[0],
    }


if __name__ == "__main__":
    sys.exit(answer_mistakes(lambda: main(tyro.cli(BenchmarkConfig, description=__doc__))))
