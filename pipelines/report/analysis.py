"""Analysis of predictions: character confusions, accuracy by size, attention."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np
import torch
from PIL import Image
from rapidfuzz.distance import Levenshtein
from torch import Tensor

from kdltr_core.charset import Protocol, fold
from kdltr_core.data.images import as_float
from kdltr_core.metrics import standard_error
from kdltr_core.recognizers import Recognizer
from kdltr_core.recognizers.decoding import decode_predictions

LOOK_ALIKES = (
    ("o", "0"), ("l", "1"), ("i", "1"), ("i", "l"), ("s", "5"), ("z", "2"), ("b", "8"), ("g", "9"), ("c", "e"),
    ("u", "v"), ("rn", "m"), ("nn", "m"), ("cl", "d"), ("vv", "w"), ("ri", "n"),
)  # fmt: skip
# Characters on a side, of differences that are counted.
LONGEST = 3
# The least size of each group of words: characters of the label, and rows of the native image.
LENGTHS = (1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 13)
HEIGHTS = (1, 16, 24, 32, 48, 64, 96)
_MAP_SHAPE = (8, 32)
_GLOW = np.array([255.0, 96.0, 0.0])

Confusion = tuple[str, str]


def differences(truth: str, read: str) -> list[Confusion]:
    """Where two words differ, as (what stands there, what was read); '' for nothing.

    The words are aligned by fewest insertions, deletions and substitutions. Neighbouring edits are one difference, so
    that ``corner`` read ``comer`` is (rn, m); of as many characters on both sides they are one each: ``oil`` read
    ``011`` is (o, 0), (i, 1), (l, 1).
    """
    pairs: list[Confusion] = []
    for is_equal, run in groupby(Levenshtein.opcodes(truth, read), lambda edit: edit.tag == "equal"):
        edits = list(run)
        there = truth[edits[0].src_start : edits[-1].src_end]
        seen = read[edits[0].dest_start : edits[-1].dest_end]
        if not is_equal:
            pairs += zip(there, seen, strict=True) if len(there) == len(seen) else [(there, seen)]
    return pairs


@dataclass(frozen=True)
class Confusions:
    """Of one reader.

    Attributes:
        counts: how often each difference of at most three characters a side was found.
        num_near: misread words that were aligned: at most half of the longer word differs.
        num_far: misread words that have too little in common with their label to say what was taken for what.
    """

    counts: Counter[Confusion]
    num_near: int
    num_far: int

    def either_way(self, first: str, second: str) -> int:
        """``first`` taken for ``second``, or the other way round."""
        return self.counts[first, second] + self.counts[second, first]


def count_confusions(words: Iterable[tuple[str, str]], protocol: Protocol = "36") -> Confusions:
    """Of (label, prediction) pairs, as the protocol compares them; correct words count for nothing."""
    counts: Counter[Confusion] = Counter()
    num_near = num_far = 0
    for label, prediction in words:
        truth, read = fold(label, protocol), fold(prediction, protocol)
        if truth == read:
            continue
        found = differences(truth, read)
        if 2 * sum(max(len(there), len(seen)) for there, seen in found) > max(len(truth), len(read)):
            num_far += 1
            continue
        num_near += 1
        counts.update(pair for pair in found if max(map(len, pair)) <= LONGEST)
    return Confusions(counts, num_near, num_far)


@dataclass(frozen=True)
class SizeGroup:
    """Words of like size; ``label`` says which, accuracy and standard error are in [0, 1]."""

    label: str
    count: int
    accuracy: float

    @property
    def error(self) -> float:
        return standard_error(self.accuracy, self.count)


def group_by_size(sizes: Sequence[int], correct: np.ndarray, starts: Sequence[int]) -> list[SizeGroup]:
    """Accuracy by size; groups without a word are left out.

    Args:
        sizes: N whole numbers; those below the first start belong to no group.
        correct: (N,) bool.
        starts: least size of each group, ascending; the last group has no end.
    """
    values = np.asarray(sizes)
    groups = []
    ends = [*starts[1:], None]
    for start, end in zip(starts, ends, strict=True):
        here = (values >= start) & (values < end) if end is not None else values >= start
        if here.any():
            groups.append(SizeGroup(_size_label(start, end), int(here.sum()), float(correct[here].mean())))
    return groups


def _size_label(start: int, end: int | None) -> str:
    if end is None:
        return f"≥ {start}"
    return str(start) if end == start + 1 else f"{start}–{end - 1}"


@dataclass(frozen=True)
class AttendedWord:
    """One word as it was read, and for each of its characters the picture (H, W, 3) uint8 lit where it attended."""

    text: str
    steps: tuple[np.ndarray, ...]


@torch.inference_mode()
def attended_words(module: Recognizer, images: Tensor) -> list[AttendedWord]:
    """The words of images (N, 3, H, W) uint8 of the recognizer's size; none if it has no attention maps.

    The maps are (N, T, 256) over 8 × 32 positions. Where the map is highest the picture glows; it is darkened
    elsewhere.
    """
    device = next((p.device for p in module.parameters()), torch.device("cpu"))
    output = module.eval()(as_float(images.to(device)))
    if output.attention is None:
        return []
    maps = output.attention.float().cpu().numpy()
    words = []
    for text, pixels, of_word in zip(
        decode_predictions(output.logits, module.charset), images.numpy(), maps, strict=True
    ):
        picture = pixels.transpose(1, 2, 0)
        words.append(AttendedWord(text, tuple(glow(picture, step) for step in of_word[: len(text)])))
    return words


def glow(picture: np.ndarray, attention: Sequence[float] | np.ndarray) -> np.ndarray:
    """picture (H, W, 3) uint8 and attention (256,), not negative, to (H, W, 3) uint8."""
    height, width, _ = picture.shape
    grid = np.asarray(attention, np.float32).reshape(_MAP_SHAPE)
    grid = grid / max(float(grid.max()), 1e-12)
    heat = np.asarray(Image.fromarray(grid).resize((width, height), Image.Resampling.BILINEAR))[:, :, None]
    lit = picture * (0.35 + 0.4 * heat) + _GLOW * 0.55 * heat
    return np.clip(lit, 0, 255).astype(np.uint8)
