"""Figures of merit of a set of predictions. All text passes through ``charset.fold`` before it is compared."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from rapidfuzz.distance import Levenshtein

from kdltr_core.charset import Protocol, fold


def is_correct(prediction: str, truth: str, protocol: Protocol = "36") -> bool:
    """Whether the two are the same word under the protocol."""
    return fold(prediction, protocol) == fold(truth, protocol)


def word_accuracy(predictions: Sequence[str], truths: Sequence[str], protocol: Protocol = "36") -> float:
    """Fraction of words read without a fault, in [0, 1].

    Raises: ValueError if there are no words, or not as many predictions as truths.
    """
    _check_pairs(predictions, truths)
    return sum(is_correct(p, t, protocol) for p, t in zip(predictions, truths, strict=True)) / len(truths)


def ned_similarity(predictions: Sequence[str], truths: Sequence[str], protocol: Protocol = "36") -> float:
    """Normalised edit distance as a similarity in [0, 1], 1 for a perfect prediction; the field's "1 - NED".

    1 - mean over words of distance(p, t) / max(|p|, |t|), after folding. Two empty words have distance 0.

    Raises: ValueError if there are no words, or not as many predictions as truths.
    """
    _check_pairs(predictions, truths)
    pairs = ((fold(p, protocol), fold(t, protocol)) for p, t in zip(predictions, truths, strict=True))
    return 1 - sum(Levenshtein.normalized_distance(p, t) for p, t in pairs) / len(truths)


def character_error_rate(predictions: Sequence[str], truths: Sequence[str], protocol: Protocol = "36") -> float:
    """Summed edit distance over the summed length of the truths, after folding; above 1 for babbling predictions.

    Raises: ValueError if the truths hold no character, or there are not as many predictions as truths.
    """
    _check_pairs(predictions, truths)
    distance, length = 0, 0
    for prediction, truth in zip(predictions, truths, strict=True):
        p, t = fold(prediction, protocol), fold(truth, protocol)
        distance += Levenshtein.distance(p, t)
        length += len(t)
    if length == 0:
        raise ValueError(f"no character of the {len(truths)} labels counts under protocol {protocol!r}")
    return distance / length


def standard_error(accuracy: float, count: int) -> float:
    """Of an accuracy in [0, 1] on ``count`` independent words: sqrt(p (1 - p) / n)."""
    if count < 1:
        raise ValueError(f"a standard error needs at least one word, not {count}")
    return math.sqrt(accuracy * (1 - accuracy) / count)


@dataclass(frozen=True)
class McNemar:
    """A paired comparison of two readers of the same words.

    Attributes:
        only_first: words that only the first reads correctly (b).
        only_second: words that only the second reads correctly (c).
        p: two-sided p-value of "both are equally good".
    """

    only_first: int
    only_second: int
    p: float


def mcnemar(first: Sequence[bool], second: Sequence[bool]) -> McNemar:
    """Exact McNemar test (McNemar 1947): b of the n = b + c discordant words as a fair coin's heads, both tails.

    Args:
        first, second: for each word, in the same order, whether that reader has it right.

    Raises: ValueError if they are not equally long.
    """
    if len(first) != len(second):
        raise ValueError(f"the paired test needs the same words on both sides, not {len(first)} and {len(second)}")
    b = sum(x and not y for x, y in zip(first, second, strict=True))
    c = sum(y and not x for x, y in zip(first, second, strict=True))
    # scipy.stats takes a second to import, for which a training need not wait.
    from scipy.stats import binomtest

    return McNemar(b, c, float(binomtest(b, b + c).pvalue) if b + c else 1.0)


def _check_pairs(predictions: Sequence[str], truths: Sequence[str]) -> None:
    if len(predictions) != len(truths):
        raise ValueError(f"{len(predictions)} predictions for {len(truths)} labels; expected one a label")
    if not truths:
        raise ValueError("there are no words to score: the set is empty")
