"""Runs that a test can afford: their words, config and records."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from kdltr_core.config import RunConfig
from kdltr_core.data.dataset import load_datasets
from kdltr_core.recognizers.registry import charset_of
from kdltr_core.train.engine import FitResult, fit
from kdltr_core.train.teacher_readings import teacher_reader
from tests.kdltr_core.data.sets import single_records, write_records
from tests.kdltr_core.small import save_teacher

LABELS = ["Hello", "a", "kd-LTR7", "EXIT", "don't", "Main", "St", "£9.50", "1/2", "OPEN", "shut", "left", "on", "off"]


def write_words(folder: Path, *teachers: str) -> Path:
    """Words to train on and a benchmark, and the weights of small teachers."""
    write_records(folder / "train", single_records(LABELS))
    write_records(folder / "benchmark", single_records(LABELS[:7], first_seed=500))
    for name in teachers:
        save_teacher(name, folder)
    return folder


def config_of(roots: Path, **values: object) -> RunConfig:
    """Of words that ``write_words`` wrote; dots are written as two underscores."""
    return RunConfig().override(
        {
            "data.train_roots": (str(roots / "train"),),
            "data.benchmark_roots": (str(roots / "benchmark"),),
            "data.cache_folder": str(roots / "cache"),
            "data.validation_fraction": 0.2,
            "optim.batch_size": 4,
            "optim.precision": "float32",
            # On 32×128, the backward pass of CNNs as narrow as the tests' spoils memory in torch 2.13's CPU kernels.
            "recognizer.student_form": "published",
            "num_steps": 5,
            "validate_every": 4,
            "checkpoint_every": 2,
            "log_every": 1,
            "selection_words": 0,
            **{name.replace("__", "."): value for name, value in values.items()},
        }
    )


class Interrupted(Exception):
    pass


class Records:
    """What a run recorded; a power cut at a step, if asked for."""

    def __init__(self, cut_at: int | None = None) -> None:
        self.cut_at = cut_at
        self.values: dict[int, dict[str, float]] = {}

    def __call__(self, step: int, values: Mapping[str, float]) -> None:
        if step == self.cut_at:
            raise Interrupted
        self.values.setdefault(step, {}).update(values)


def run(config: RunConfig, folder: Path, cut_at: int | None = None, **watched: Any) -> tuple[FitResult, Records]:
    """As ``fit``, which what is watched is handed to."""
    records = Records(cut_at)
    words = load_datasets(config.data, charset_of(config), reader=teacher_reader(config))
    return fit(config, words, run_folder=folder, record=records, **watched), records


def leaves(tree: object, path: str = "") -> dict[str, object]:
    """Every tensor and number of a checkpoint but its speed, by place."""
    if isinstance(tree, Mapping):
        return {k: v for key, value in tree.items() for k, v in leaves(value, f"{path}/{key}").items()}
    if isinstance(tree, list | tuple):
        return {k: v for key, value in enumerate(tree) for k, v in leaves(value, f"{path}/{key}").items()}
    return {} if path.endswith("images_per_second") else {path: tree}


def assert_same(actual: Mapping[str, object], expected: Mapping[str, object]) -> None:
    """Bit for bit; a NaN is one."""
    assert actual.keys() == expected.keys()
    for place, value in expected.items():
        if isinstance(value, Tensor):
            torch.testing.assert_close(actual[place], value, rtol=0, atol=0, equal_nan=True, msg=place)
        else:
            assert actual[place] == value, place
