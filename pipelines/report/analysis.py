"""Analysis of predictions: character confusions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import groupby

from rapidfuzz.distance import Levenshtein

from kdltr_core.charset import Protocol, fold

# Characters on a side, of differences that are counted.
LONGEST = 3

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
