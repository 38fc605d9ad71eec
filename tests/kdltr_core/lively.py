"""Small students whose random weights read words of many lengths, and pictures that differ enough for that."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from kdltr_core.data.images import as_float
from kdltr_core.recognizers import Recognizer
from kdltr_core.recognizers.decoding import Prediction, decode_with_confidence
from tests.kdltr_core.small import STUDENTS

# What the weights are multiplied by, what is added for the end class, and the seed; found by trying.
_LIVELY = {"parseq_tiny": (6, 1, 0), "abinet_vision": (3, 2, 0), "abinet": (2, 1.5, 4), "matrn": (2, 1, 2)}


def lively_student(name: str) -> Recognizer:
    factor, for_end, seed = _LIVELY[name]
    torch.manual_seed(seed)
    student = STUDENTS[name]().eval()
    with torch.no_grad():
        for key, weight in student.named_parameters():
            if weight.dim() > 1 and "resnet" not in key:
                weight.mul_(factor)
            if key.endswith(("head.bias", "cls.bias")):
                weight[student.charset.end_id] += for_end
    return student


def pictures(num: int, seed: int = 1) -> Tensor:
    """(num, 3, 16, 64) uint8: eight blocks of random colours each."""
    colours = torch.rand(num, 3, 2, 4, generator=torch.Generator().manual_seed(seed))
    return (F.interpolate(colours, size=(16, 64)) * 255).to(torch.uint8)


@torch.inference_mode()
def read_alone(student: Recognizer, pixels: Tensor) -> list[Prediction]:
    """The recognizer's own reading of every picture, each by itself."""
    logits = [student(as_float(picture[None])).logits for picture in pixels]
    return [decode_with_confidence(one, student.charset, student.temperature)[0] for one in logits]


def assert_reads_as(words: list[Prediction], classes: np.ndarray | Tensor, probabilities: np.ndarray | Tensor) -> None:
    """A graph's answer is these words of Charset 36 or 94, to 1e-3 in every probability and in the whole reading's."""
    for word, ids, shares in zip(words, np.asarray(classes), np.asarray(probabilities), strict=True):
        length = len(word.text)
        assert np.count_nonzero(ids) == np.count_nonzero(ids[:length]) == length, word.text
        np.testing.assert_allclose(shares[:length], word.character_confidences, atol=1e-3)
        np.testing.assert_allclose(shares.prod(), word.confidence, atol=1e-3)
