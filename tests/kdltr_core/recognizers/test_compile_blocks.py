"""Blocks compiled one by one: the recognizer computes what it did, and blocks that look alike are compiled once."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch._dynamo.testing import CompileCounter

from kdltr_core.recognizers import Recognizer
from kdltr_core.recognizers.abinet import Abinet, AbinetSize
from kdltr_core.recognizers.layers import Block, compile_blocks
from kdltr_core.recognizers.parseq import Parseq, ParseqSize

DEEP = ParseqSize(dim=32, depth=3, encoder_heads=2, decoder_heads=4)
WIDE = AbinetSize(planes=(8, 8, 8, 8, 16), blocks=(1, 3, 1, 1, 3), num_heads=2, feedforward=32, attention_channels=8)


def logits(recognizer: Recognizer) -> torch.Tensor:
    torch.manual_seed(1)
    targets = torch.tensor([[95, 1, 2, 0]] * 2)
    return recognizer.forward_training(torch.rand(2, 3, 16, 64), targets, torch.arange(4)[None]).logits


@pytest.mark.parametrize(
    ("recognizer", "num_blocks", "num_compiled"),
    [
        (lambda: Parseq((16, 64), (2, 4), DEEP), 4, 2),  # three alike in the encoder, one of the decoder
        # Seven ResNet blocks of three shapes, and two that are there but once; three encoder layers; one attention;
        # four decoder layers, of which the first asks for the same positions of every word.
        (lambda: Abinet((16, 64), WIDE), 17, 7),
    ],
)
def test_alike_blocks_are_compiled_once(
    recognizer: Callable[[], Recognizer], num_blocks: int, num_compiled: int
) -> None:
    torch.manual_seed(0)
    student = recognizer().train()
    assert sum(isinstance(module, Block) for module in student.modules()) == num_blocks
    expected, counter = logits(student), CompileCounter()
    compile_blocks(student, backend=counter)
    assert torch.equal(logits(student), expected)
    assert counter.frame_count == num_compiled
