"""A training step: nothing in it waits for the device."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from kdltr_core.charset import Charset
from kdltr_core.config import RecognizerName, RunConfig
from kdltr_core.data.batch import Batch, encode_targets, valid_rows
from kdltr_core.data.dataset import TrainingPairs
from kdltr_core.data.pack import build_pack
from kdltr_core.distributed import DistributedContext
from kdltr_core.train.step import TrainingStep
from tests.kdltr_core.data.sets import single_records, write_records
from tests.kdltr_core.small import build_small, save_teacher

LABELS = ["Hello", "a", "kd7", "EXIT"]
# What cannot be answered before the device has come so far: a value, or a size that depends on values.
WAITS = ("_local_scalar_dense", "nonzero", "masked_select", "_unique2", "is_nonzero", "equal")


# On a CPU these read the memory directly, without an operation.
READS = ("tolist", "numpy", "cpu", "__array__")


class Reads(TorchFunctionMode):
    """Counts the methods that bring a tensor's values to Python."""

    def __init__(self, found: list[str]) -> None:
        super().__init__()
        self.found = found

    def __torch_function__(
        self, func: Any, types: Sequence[type], args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        if getattr(func, "__name__", "") in READS:
            self.found.append(func.__name__)
        return func(*args, **kwargs or {})


class Waits(TorchDispatchMode):
    """Counts the operations that would make a host wait for its device."""

    def __init__(self, found: list[str]) -> None:
        super().__init__()
        self.found = found

    def __torch_dispatch__(
        self, func: Any, types: Sequence[type], args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        name = func.overloadpacket.__name__
        by_mask = name in ("index", "index_put", "index_put_") and any(
            index is not None and index.dtype in (torch.bool, torch.uint8) for index in args[1]
        )
        if name in WAITS or by_mask:
            self.found.append(str(func))
        return func(*args, **kwargs or {})


def make_step(name: str, folder: Path, **values: object) -> tuple[TrainingStep, TrainingPairs]:
    pack = build_pack(write_records(folder / "set", single_records(LABELS)), cache_folder=folder / "cache")
    pairs = TrainingPairs([pack], np.arange(len(pack)), "none", "train")
    config = RunConfig().override(
        {
            "recognizer.name": name,
            "recognizer.teacher_weights": save_teacher(name, folder),
            "optim.batch_size": 4,
            **{field.replace("__", "."): value for field, value in values.items()},
        }
    )
    return TrainingStep(config, pairs, DistributedContext(), [0]), pairs


def make_batch(pairs: TrainingPairs, charset: Charset, num_steps: int | None) -> Batch:
    targets, lengths = encode_targets(LABELS, charset, num_steps)
    rows = np.arange(len(LABELS))
    steps = valid_rows(lengths, targets.shape[1] - 1)
    return Batch(*pairs.gather(rows), tuple(LABELS), targets, lengths, rows, steps)


@pytest.mark.parametrize(
    ("name", "objective"), [*((name, "distillation") for name in get_args(RecognizerName)), ("matrn", "supervised")]
)
def test_no_operation_of_a_step_waits_for_the_device(
    name: str, objective: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The moving average apart: torch's counts its updates on the CPU, and asks there."""
    build_small(monkeypatch, dropout=0.1)
    step, pairs = make_step(name, tmp_path, objective__name=objective)
    step.begin()
    batch = make_batch(pairs, step.distiller.student.charset, step.distiller.student.fixed_num_steps)
    step.run(0, [batch], 1.0, None)  # the optimiser makes its state
    found: list[str] = []
    with Reads(found), Waits(found):
        step.run(1, [batch], 1.0, None)
    assert found == []


@pytest.mark.parametrize(
    "wait", [lambda x: x.item(), lambda x: x.tolist(), lambda x: bool(x.sum() > 0), lambda x: x[x > 0]]
)
def test_a_wait_would_be_found(wait: Any) -> None:
    found: list[str] = []
    with Reads(found), Waits(found):
        wait(torch.ones(1))
    assert found
