"""Functions of tensors that a GPU replays whole, as CUDA graphs, without waiting for Python between their kernels."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import torch
from torch import Tensor

# Of every set of shapes: libraries choose their kernels, and blocks are compiled, before a graph is recorded.
CALLS_BEFORE_CAPTURE = 3

Given = Mapping[str, Tensor]


class Recorder(Protocol):
    """What records on one kind of device."""

    def run(self, function: Callable[[], Any]) -> Any:
        """The function's result, computed where it will be recorded."""

    def record(self, function: Callable[[], Any]) -> tuple[Callable[[], None], Any]:
        """How to replay the function, which is not carried out yet, and the tensors in which its result will be.

        Raises: RuntimeError if something in it cannot be recorded.
        """


class CudaRecorder:
    """Records CUDA graphs that share their memory: one of them is replayed at a time, and none needs another's.

    Warming up and recording are on one stream beside the default one, as torch asks for.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.stream = torch.cuda.Stream(device)
        self.pool = torch.cuda.graph_pool_handle()

    def run(self, function: Callable[[], Any]) -> Any:
        current = torch.cuda.current_stream(self.device)
        self.stream.wait_stream(current)
        with torch.cuda.stream(self.stream):
            result = function()
        current.wait_stream(self.stream)
        return result

    def record(self, function: Callable[[], Any]) -> tuple[Callable[[], None], Any]:
        graph, current = torch.cuda.CUDAGraph(), torch.cuda.current_stream(self.device)
        try:
            # Other threads go on with what they do, such as pinning the next batch.
            with torch.cuda.graph(graph, self.pool, self.stream, "thread_local"):
                result = function()
        except RuntimeError:
            # A failed capture leaves its stream the current one, and the generator of random numbers in a state that
            # no kernel outside a capture can use.
            torch.cuda.set_stream(current)
            of_device = torch.cuda.default_generators[current.device.index]
            fresh = torch.Generator(current.device).manual_seed(of_device.initial_seed())
            of_device.graphsafe_set_state(fresh.graphsafe_get_state())
            raise
        return graph.replay, result


# By the type of the device; on others a function is called.
RECORDERS: dict[str, Callable[[torch.device], Recorder]] = {"cuda": CudaRecorder}


class Graphs:
    """The functions of one task, captured one and all or, if one cannot be, none.

    Args:
        device: where they compute. Where nothing records, capturing a function gives the function.
    """

    def __init__(self, device: torch.device) -> None:
        make = RECORDERS.get(device.type)
        self.recorder = make(device) if make else None

    def capture(self, function: Callable[[Given], Any]) -> Callable[[Given], Any]:
        """The function, replayed where it can be.

        Args:
            function: of named tensors whose shapes it may depend on, and whose values only the device reads. All else
                that it reads or changes keeps its place in memory. The tensors that it returns are written anew by
                the next call with the same shapes.
        """
        return _Captured(function, self) if self.recorder else function


class _Captured:
    def __init__(self, function: Callable[[Given], Any], graphs: Graphs) -> None:
        self.function, self.graphs = function, graphs
        self.buffers: dict[object, dict[str, Tensor]] = {}
        self.calls: dict[object, int] = {}
        self.recorded: dict[object, tuple[Callable[[], None], Any]] = {}

    def __call__(self, given: Given) -> Any:
        recorder = self.graphs.recorder
        if recorder is None:
            return self.function(given)
        shapes = tuple((name, tensor.shape, tensor.dtype) for name, tensor in given.items())
        if shapes not in self.buffers:
            self.buffers[shapes] = {name: torch.empty_like(tensor) for name, tensor in given.items()}
        buffers = self.buffers[shapes]
        for name, tensor in given.items():
            buffers[name].copy_(tensor, non_blocking=True)
        self.calls[shapes] = self.calls.get(shapes, 0) + 1
        if self.calls[shapes] <= CALLS_BEFORE_CAPTURE:
            return recorder.run(lambda: self.function(buffers))
        if shapes not in self.recorded:
            try:
                self.recorded[shapes] = recorder.record(lambda: self.function(buffers))
            except RuntimeError as error:
                self.graphs.recorder = None
                self.buffers, self.recorded = {}, {}
                reason = str(error).strip().splitlines()[0]
                warnings.warn(
                    f"no CUDA graph could be made ({reason}); the computation goes on kernel by kernel", stacklevel=2
                )
                return self.function(given)
        replay, result = self.recorded[shapes]
        replay()
        return result
