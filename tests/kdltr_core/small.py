"""Every family in a size that a test can afford: the same layers, few and narrow."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from kdltr_core.config import HIGH_RES_SIZE, LOW_RES_SIZE
from kdltr_core.data.batch import encode_targets
from kdltr_core.inference.batched import read_with_recognizer
from kdltr_core.recognizers import Recognizer, registry
from kdltr_core.recognizers.abinet import Abinet, AbinetSize, AbinetVision
from kdltr_core.recognizers.matrn import Matrn
from kdltr_core.recognizers.parseq import Parseq, ParseqSize
from kdltr_core.recognizers.permutations import sample_permutations

SMALL = AbinetSize(
    planes=(8, 8, 8, 8, 16),
    blocks=(1, 1, 1, 1, 1),
    num_heads=2,
    feedforward=16,
    vision_depth=1,
    language_depth=2,
    joint_depth=1,
    attention_channels=8,
    dropout=0.0,
)
SMALL_PARSEQ = ParseqSize(dim=48, depth=1, encoder_heads=3, decoder_heads=6, dropout=0.0)
SMALL_PARSEQ_TINY = ParseqSize(dim=32, depth=1, encoder_heads=2, decoder_heads=4, dropout=0.0)

Families = dict[str, Callable[[], Recognizer]]


def families(image_size: tuple[int, int], patch_size: tuple[int, int], dropout: float = 0.0) -> Families:
    cnn = replace(SMALL, dropout=dropout)
    vit, tiny = replace(SMALL_PARSEQ, dropout=dropout), replace(SMALL_PARSEQ_TINY, dropout=dropout)
    return {
        "abinet_vision": lambda: AbinetVision(image_size, cnn),
        "abinet": lambda: Abinet(image_size, cnn),
        "matrn": lambda: Matrn(image_size, cnn),
        "parseq": lambda: Parseq(image_size, patch_size, vit),
        "parseq_tiny": lambda: Parseq(image_size, patch_size, tiny),
    }


TEACHERS = families(HIGH_RES_SIZE, (4, 8))
STUDENTS = families(LOW_RES_SIZE, (2, 4))
CNN_FAMILIES = ("abinet_vision", "abinet", "matrn")


def build_small(monkeypatch: pytest.MonkeyPatch, dropout: float = 0.0) -> None:
    """From here on, what is built by name is small."""
    monkeypatch.setattr(registry, "_TEACHERS", families(HIGH_RES_SIZE, (4, 8), dropout))
    monkeypatch.setattr(registry, "_STUDENTS", families(LOW_RES_SIZE, (2, 4), dropout))


def save_teacher(name: str, folder: Path, seed: int = 0) -> str:
    """A small teacher's random weights in a file."""
    torch.manual_seed(seed)
    path = folder / f"{name}-{seed}.pt"
    torch.save(TEACHERS[name]().state_dict(), path)
    return str(path)


def read_words(module: Recognizer, pairs: Any, image: str, **options: Any) -> list[str]:
    """As ``read_with_recognizer``, the text alone."""
    return [word.text for word in read_with_recognizer(module, pairs, image, **options)]


def drawn_batch(recognizer: Recognizer, *labels: str, num_orders: int = 2) -> tuple[Tensor, ...]:
    """high_res, low_res, targets, lengths and orders of words whose pixels are noise."""
    generator = torch.Generator().manual_seed(1)
    high_res = torch.randint(0, 256, (len(labels), 3, *HIGH_RES_SIZE), dtype=torch.uint8, generator=generator)
    low_res = torch.randint(0, 256, (len(labels), 3, *LOW_RES_SIZE), dtype=torch.uint8, generator=generator)
    targets, lengths = encode_targets(list(labels), recognizer.charset, recognizer.fixed_num_steps)
    return high_res, low_res, targets, lengths, sample_permutations(targets.shape[1] - 2, num_orders, generator)
