"""Kernels made for the shapes of a run (torch.compile): of the training step, and of reading."""

from __future__ import annotations

from collections.abc import Callable
from typing import ParamSpec, TypeVar

import torch
from torch import nn

from kdltr_core.recognizers import Recognizer
from kdltr_core.recognizers.parseq import Parseq

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")

# A few widths of the text, times a few numbers of contrasted rows: ``data.loader``.
_MOST_SHAPES = 64


def compile_whole(function: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
    """The function as one graph for every shape it meets. Raises when called: where it cannot be one graph."""
    _allow_what_a_step_needs()
    return torch.compile(function, fullgraph=True, dynamic=False)


def compile_module(module: nn.Module) -> None:
    """As ``compile_whole``, of a module's forward pass; its state dict stays the same."""
    _allow_what_a_step_needs()
    module.compile(fullgraph=True, dynamic=False)


def compile_reading(recognizer: Recognizer) -> None:
    """What of a reading is one graph: all of it, and of PARSeq the encoder; how far a word goes is seen in the loop."""
    (recognizer.encoder if isinstance(recognizer, Parseq) else recognizer).compile(fullgraph=True)


def _allow_what_a_step_needs() -> None:
    # The projector has an LSTM, which stands in the graph as one operation.
    torch._dynamo.config.allow_rnn = True
    # Its name up to torch 2.6.
    limit = "recompile_limit" if hasattr(torch._dynamo.config, "recompile_limit") else "cache_size_limit"
    setattr(torch._dynamo.config, limit, _MOST_SHAPES)
