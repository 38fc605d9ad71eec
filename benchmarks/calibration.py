"""Temperatures of the bundled teacher on words it has not seen: python -m benchmarks.calibration ROOT…"""

from __future__ import annotations

import sys

import torch

from kdltr_core.config import RunConfig
from kdltr_core.data.roots import open_benchmarks
from kdltr_core.distributed import DistributedContext
from kdltr_core.evaluation.calibration import fit_on_pairs
from kdltr_core.train.build import load_teacher


def main() -> None:
    config = RunConfig().override({"data.benchmark_roots": sys.argv[1:], "data.benchmark_degradation": "none"})
    teacher, world = load_teacher(config, torch.device("cpu")), DistributedContext()
    for name, pack in open_benchmarks(config.data).items():
        for image in ("high_res", "enlarged"):
            print(f"{name}, {image}: {fit_on_pairs(teacher, [pack], image, world=world).sentence}")


if __name__ == "__main__":
    main()
