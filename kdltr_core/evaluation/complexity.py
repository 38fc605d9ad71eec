"""How large the recognizers are, and how much they multiply."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from kdltr_core.config import ObjectiveConfig, RecognizerName
from kdltr_core.data.batch import encode_targets
from kdltr_core.recognizers import Recognizer, build_student, build_teacher
from kdltr_core.recognizers.layers import CachedAttention
from kdltr_core.recognizers.parseq import Parseq
from kdltr_core.recognizers.permutations import sample_permutations

Role = Literal["teacher", "student"]
WORD_LENGTHS = (5, 25)
# Of PARSeq's reading in ``layers_only``: the length at which the published figure comes out, and no other does.
LAYERS_WORD_LENGTH = 3


@dataclass(frozen=True)
class Complexity:
    """What one recognizer has, and its multiply-accumulates for one image.

    Attributes:
        parameters, buffers: numbers in its trained weights, and beside them (statistics, fixed positions).
        reading: of a reading, by characters of the word.
        training: of the training forward, by characters of the longest word of the batch; no backward.
        layers_only: see ``count_layers``.
    """

    recognizer: RecognizerName
    role: Role
    parameters: int
    buffers: int
    reading: Mapping[int, int]
    training: Mapping[int, int]
    layers_only: int


def count_complexity(recognizer: RecognizerName, role: Role) -> Complexity:
    """Counted on a recognizer with random weights."""
    model = (build_teacher if role == "teacher" else build_student)(recognizer)
    parameters, buffers = (sum(tensor.numel() for tensor in some) for some in (model.parameters(), model.buffers()))
    # torch's counter follows modules through autograd, which must have nothing to follow.
    model.eval().requires_grad_(False)
    image = torch.rand(1, 3, *model.image_size)
    reading: dict[int, int] = {}
    training: dict[int, int] = {}
    first, *_ = WORD_LENGTHS
    for length in WORD_LENGTHS:
        if reading and model.fixed_num_steps is not None:
            # Every word takes the same steps.
            reading[length], training[length] = reading[first], training[first]
            continue
        targets, orders = _word(model, length)
        training[length] = multiply_accumulates(partial(model.forward_training, image, targets, orders))
        _expect(model, length)
        reading[length] = multiply_accumulates(partial(model, image))
    _expect(model, LAYERS_WORD_LENGTH)
    return Complexity(recognizer, role, parameters, buffers, reading, training, count_layers(model, image))


def multiply_accumulates(action: Callable[[], object]) -> int:
    """Of the convolutions, linear layers and matrix products in ``action``, those of attention among them."""
    # On a CPU, torch's counter does not see the fused attention; as two products it sees it everywhere.
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        action()
    return counter.get_total_flops() // 2


@torch.no_grad()
def count_layers(model: Recognizer, image: Tensor) -> int:
    """Multiply-accumulates of a reading as a counter of layers (ptflops 0.6.9) sees the published models.

    It sees convolutions, linear layers, and normalisations at two per value. It sees no matrix product outside a layer,
    and nothing of ABINet's and MATRN's attention modules, which are of a class of their own. Of PARSeq's decoder it
    sees all attention; there the keys and values of characters and image are made anew at every step.
    """
    attentions = [module for module in model.modules() if isinstance(module, CachedAttention)]
    hidden = {layer for attention in attentions for layer in attention.modules()}
    total = 0

    def count(layer: nn.Module, inputs: object, output: Tensor) -> None:
        nonlocal total
        total += output.numel() * (layer.weight[0].numel() if isinstance(layer, (nn.Conv2d, nn.Linear)) else 2)

    counted = (nn.Conv2d, nn.Linear, nn.BatchNorm2d, nn.LayerNorm)
    layers = [layer for layer in model.modules() if isinstance(layer, counted) and layer not in hidden]
    handles = [layer.register_forward_hook(count) for layer in layers]
    model(image)
    for handle in handles:
        handle.remove()
    if isinstance(model, Parseq):
        passes = [(1, step) for step in range(1, model.num_steps + 1)] + [(model.num_steps, model.num_steps)]
        dim, positions = model.visual_shape
        for queries, characters in passes:
            total += _attention(dim, queries, characters) + _attention(dim, queries, positions)
    return total


def _attention(dim: int, num_queries: int, num_keys: int) -> int:
    """Projections of queries, keys, values and result, and two products."""
    return 2 * dim * (dim * (num_queries + num_keys) + num_queries * num_keys)


def _word(model: Recognizer, length: int) -> tuple[Tensor, Tensor]:
    """Targets (1, T + 1) of a word, and permutations as in training."""
    targets, _ = encode_targets(["a" * length], model.charset, model.fixed_num_steps)
    generator = torch.Generator().manual_seed(0)
    return targets, sample_permutations(targets.shape[1] - 2, ObjectiveConfig().num_permutations, generator)


def _expect(model: Recognizer, length: int) -> None:
    """Let a reading take the steps of a word of this length, whatever random weights would read."""
    if isinstance(model, Parseq):
        model.num_steps = length + 1
        model.head.bias[model.charset.end_id] = -torch.inf
