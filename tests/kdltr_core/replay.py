"""A stand-in for CUDA graphs on a CPU: what a function did is recorded, and carried out again without its Python.

Like a graph it knows addresses and nothing else: a number that Python worked out stays what it was, a tensor that was
replaced is not seen, and a value that Python would have to wait for is refused.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from kdltr_core import capture

# What cannot be answered before the device has come so far: a value, or a size that depends on values.
WAITS = ("_local_scalar_dense", "nonzero", "masked_select", "_unique2", "is_nonzero", "equal")
# On a CPU these read the memory directly, without an operation.
READS = ("tolist", "numpy", "cpu", "__array__")


class Reads(TorchFunctionMode):
    """Refuses the methods that bring a tensor's values to Python."""

    def __torch_function__(
        self, func: Any, types: Sequence[type], args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        refuse(getattr(func, "__name__", "") in READS, func)
        return func(*args, **kwargs or {})


class Operations(TorchDispatchMode):
    """Records operations and refuses those that would make a host wait for its device."""

    def __init__(self) -> None:
        super().__init__()
        self.done: list[tuple[Any, tuple[Any, ...], Mapping[str, Any], list[Tensor]]] = []

    def __torch_dispatch__(
        self, func: Any, types: Sequence[type], args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        name = func.overloadpacket.__name__
        by_mask = name in ("index", "index_put", "index_put_") and any(
            index is not None and index.dtype in (torch.bool, torch.uint8) for index in args[1]
        )
        refuse(name in WAITS or by_mask, func)
        result = func(*args, **kwargs or {})
        self.done.append((func, args, kwargs or {}, tensors_of(result)))
        return result


def refuse(waits: bool, operation: object) -> None:
    if waits:
        raise RuntimeError(f"{operation} waits for the device")


def tensors_of(result: Any) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(result) if isinstance(leaf, Tensor)]


class Replays:
    """``capture.Recorder`` on a CPU. Recording carries the function out, so that the first replay has nothing to do."""

    def __init__(self, device: torch.device) -> None:
        self.num_recorded = self.num_replayed = 0

    def run(self, function: Callable[[], Any]) -> Any:
        return function()

    def record(self, function: Callable[[], Any]) -> tuple[Callable[[], None], Any]:
        operations = Operations()
        with Reads(), operations:
            result = function()
        self.num_recorded += 1
        replays = iter(range(10**9))
        return lambda: self._replay(operations) if next(replays) else None, result

    @torch.no_grad()
    def _replay(self, operations: Operations) -> None:
        self.num_replayed += 1
        for func, args, kwargs, outputs in operations.done:
            # What changes a list in place gives nothing back.
            for place, value in zip(outputs, tensors_of(func(*args, **kwargs)), strict=False):
                if place.data_ptr() != value.data_ptr():
                    place.copy_(value)


def replay_on_cpu(monkeypatch: pytest.MonkeyPatch, after: int = 1) -> list[Replays]:
    """From here on a CPU records what it was called with so often, and replays it; the recorders, as they come."""
    made: list[Replays] = []
    monkeypatch.setattr(capture, "CALLS_BEFORE_CAPTURE", after)
    monkeypatch.setitem(capture.RECORDERS, "cpu", lambda device: made.append(Replays(device)) or made[-1])
    return made
