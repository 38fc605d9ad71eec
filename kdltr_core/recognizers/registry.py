"""Which recognizers there are, by name and role."""

from __future__ import annotations

from collections.abc import Callable

import torch

from kdltr_core.charset import Charset
from kdltr_core.config import HIGH_RES_SIZE, LOW_RES_SIZE, RunConfig, StudentForm
from kdltr_core.recognizers.abinet import Abinet, AbinetVision
from kdltr_core.recognizers.matrn import Matrn
from kdltr_core.recognizers.parseq import Parseq, ParseqSize
from kdltr_core.recognizers.recognizer import Recognizer

PARSEQ_TINY = ParseqSize(dim=192, encoder_heads=3, decoder_heads=6)

_TEACHERS: dict[str, Callable[[], Recognizer]] = {
    "abinet_vision": lambda: AbinetVision(HIGH_RES_SIZE),
    "abinet": lambda: Abinet(HIGH_RES_SIZE),
    "matrn": lambda: Matrn(HIGH_RES_SIZE),
    "parseq": lambda: Parseq(HIGH_RES_SIZE, (4, 8)),
    "parseq_tiny": lambda: Parseq(HIGH_RES_SIZE, (4, 8), PARSEQ_TINY),
}
_STUDENTS: dict[str, Callable[[], Recognizer]] = {
    "abinet_vision": lambda: AbinetVision(LOW_RES_SIZE),
    "abinet": lambda: Abinet(LOW_RES_SIZE),
    "matrn": lambda: Matrn(LOW_RES_SIZE),
    "parseq": lambda: Parseq(LOW_RES_SIZE, (2, 4)),
    "parseq_tiny": lambda: Parseq(LOW_RES_SIZE, (2, 4), PARSEQ_TINY),
}


def build_teacher(name: str) -> Recognizer:
    """The recognizer of 32×128 images, with random weights.

    Example:
        >>> teacher = build_teacher("parseq_tiny").eval()
        >>> teacher(torch.rand(1, 3, 32, 128)).logits.shape[-1]
        95

    Raises: ValueError for an unknown name.
    """
    return _build(_TEACHERS, name)


def build_student(name: str, form: StudentForm = "enlarging") -> Recognizer:
    """The recognizer of 16×64 images, with random weights.

    Args:
        form: "published": its first layers are cut for small images, with the keys and shapes of the published
            students; "enlarging": it enlarges an image itself (bicubic ×2, aligned corners) and then is its teacher,
            in keys, shapes and arithmetic, so that with the teacher's weights it reads what the teacher reads enlarged.

    Example:
        >>> build_student("abinet").image_size
        (16, 64)

    Raises: ValueError for an unknown name.
    """
    if form == "published":
        return _build(_STUDENTS, name)
    student = _build(_TEACHERS, name)
    for part in student.modules():
        if isinstance(part, Recognizer):
            part.image_size, part.enlarges = LOW_RES_SIZE, True
    return student


def _build(family: dict[str, Callable[[], Recognizer]], name: str) -> Recognizer:
    if name not in family:
        raise ValueError(f"unknown recognizer {name!r}; there are {', '.join(family)}")
    return family[name]()


def charset_of(config: RunConfig) -> Charset:
    """The alphabet of the run's recognizer, without making its weights."""
    with torch.device("meta"):
        return build_student(config.recognizer.name).charset
