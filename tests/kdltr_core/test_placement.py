"""What a GPU computes stays on it: shown on a device that knows shapes and no values, in a process of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import Any, get_args
from unittest.mock import patch

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch._subclasses import fake_tensor
from torch.utils import backend_registration
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from kdltr_core.config import DegradationName, ObjectiveConfig, ObjectiveName, RecognizerName
from kdltr_core.data.batch import encode_targets, valid_rows
from kdltr_core.data.batch_degrade import make_low_res_batch
from kdltr_core.distributed import RunningStatistics
from kdltr_core.inference.captured import LogitsReader, _Characters
from kdltr_core.recognizers import build_student, build_teacher
from kdltr_core.recognizers.permutations import sample_permutations
from kdltr_core.train.distiller import Distiller, needs_teacher, teach
from kdltr_core.train.optim import Gradients

FAMILIES: tuple[RecognizerName, ...] = ("abinet", "matrn", "parseq_tiny")
DEGRADATIONS: tuple[DegradationName, ...] = ("published", "camera", "mixed")
GPU = "gpu:0"

pytestmark = pytest.mark.skipif(
    not hasattr(backend_registration, "_setup_privateuseone_for_python_backend"), reason="this torch has no such device"
)


class Crossings(TorchDispatchMode):
    """Counts operations that bring values from one device to another, or to Python; all others may not mix devices."""

    num = 0

    def __torch_dispatch__(
        self, func: Any, types: Sequence[type], args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        result = func(*args, **kwargs or {})
        devices = {leaf.device for leaf in tree_leaves((args, kwargs, result)) if isinstance(leaf, Tensor)}
        self.num += len(devices) > 1 or func.overloadpacket.__name__ == "_local_scalar_dense"
        return result


def register() -> None:
    backend_registration._setup_privateuseone_for_python_backend("gpu")
    torch.gpu.get_amp_supported_dtype = lambda: [torch.bfloat16]  # type: ignore[attr-defined]
    fake_tensor.CONSTANT_NUMEL_LIMIT = 0  # numbers alone have no values either


def like(value: Tensor) -> Tensor:
    return torch.empty_strided(value.shape, value.stride(), dtype=value.dtype, device=GPU)


def put_there(module: nn.Module) -> None:
    for part in module.modules():
        for kind in (part._parameters, part._buffers):
            for name, value in kind.items():
                if value is not None:
                    there = like(value)
                    kind[name] = nn.Parameter(there, value.requires_grad) if kind is part._parameters else there  # type: ignore[assignment]


def pixels(num: int, height: int) -> Tensor:
    return torch.zeros(num, 3, height, 4 * height, dtype=torch.uint8, device=GPU)


def train(family: RecognizerName, objective: ObjectiveName) -> tuple[str, int]:
    student, teacher = build_student(family), build_teacher(family).eval().requires_grad_(False)
    config = ObjectiveConfig(name=objective)
    distiller = Distiller(student, config, teacher).train()
    targets, lengths = encode_targets(("hello", "worlds"), student.charset, student.fixed_num_steps)
    orders = sample_permutations(targets.shape[1] - 2, config.num_permutations, torch.Generator().manual_seed(0))
    rows = valid_rows(lengths, targets.shape[1] - 1)
    with fake_tensor.FakeTensorMode(allow_non_fake_inputs=True):
        put_there(distiller)
        put_there(teacher)
        targets, lengths, orders, rows = (like(given) for given in (targets, lengths, orders, rows))
        low_res, high_res, weights = pixels(2, 16), pixels(2, 32), torch.ones(2, device=GPU)

        def loss() -> Tensor:
            taught = teach(teacher, high_res, targets, orders) if needs_teacher(config) else None
            total: Tensor = distiller(low_res, targets, lengths, orders, taught, weights.sum(), rows, weights).total
            return total

        parameters = [p for p in distiller.parameters() if p.requires_grad]
        for parameter, gradient in zip(
            parameters, torch.autograd.grad(loss(), parameters, allow_unused=True), strict=True
        ):
            parameter.requires_grad_(gradient is not None)
        gradients, statistics = Gradients(distiller), RunningStatistics(distiller)
        with Crossings() as crossings:
            gradients.add(loss())
            norm = nn.utils.clip_grad_norm_(distiller.parameters(), 20.0)
            statistics.restore_where(~torch.isfinite(norm))
    return str(norm.device), crossings.num


def read(family: RecognizerName) -> tuple[str, int]:
    student = build_student(family).eval().requires_grad_(False)
    reader = LogitsReader(student, torch.device(GPU))
    with fake_tensor.FakeTensorMode(allow_non_fake_inputs=True), torch.inference_mode():
        put_there(student)
        given = {"pixels": pixels(8, 16)}
        with Crossings() as crossings:
            if family.startswith("parseq"):
                characters = _Characters(reader)
                characters.begin(given)
                characters.parts[0]({})
                logits = characters.ends[0]({})
            else:
                logits = reader(given["pixels"])
    return str(logits.device), crossings.num


def degrade() -> list[str]:
    def constant(values: Any, device: torch.device | None = None, **kind: Any) -> Tensor:
        return torch.empty(np.shape(values), device=device, **kind)

    seeds = np.arange(64, dtype=np.uint64) * np.uint64(977)
    with fake_tensor.FakeTensorMode(allow_non_fake_inputs=True), patch.object(torch, "tensor", constant):
        return [str(make_low_res_batch(pixels(64, 32), pixels(64, 16), seeds, name).device) for name in DEGRADATIONS]


@pytest.fixture(scope="module")
def beside() -> Iterator[Callable[..., Any]]:
    with ProcessPoolExecutor(1, get_context("spawn"), register) as process:
        yield lambda function, *given: process.submit(function, *given).result()


@pytest.mark.parametrize("family", FAMILIES)
def test_forward_backward_and_clipping_neither_leave_the_device_nor_ask_it_for_a_value(
    beside: Callable[..., Any], family: RecognizerName
) -> None:
    """With the four terms of every family; an operation of two devices is an error of torch's."""
    assert beside(train, family, "distillation") == (GPU, 0)


@pytest.mark.parametrize("objective", [name for name in get_args(ObjectiveName) if name != "distillation"])
def test_so_do_the_baselines(beside: Callable[..., Any], objective: ObjectiveName) -> None:
    assert beside(train, "parseq_tiny", objective) == (GPU, 0)


@pytest.mark.parametrize("family", FAMILIES)
def test_reading_does_not_leave_the_device(beside: Callable[..., Any], family: RecognizerName) -> None:
    """Of PARSeq the encoder, the first characters and the refinement, between which a value is asked for."""
    assert beside(read, family) == (GPU, 0)


def test_images_are_degraded_where_they_lie(beside: Callable[..., Any]) -> None:
    """Random numbers are brought from the host; no operation mixes devices."""
    assert beside(degrade) == [GPU] * len(DEGRADATIONS)
