"""Doubt: pictures that are no single word, and text that a reader of words cannot have seen whole."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
from PIL import Image

from kdltr_core.recognizers.decoding import Prediction

Doubt = Literal["whole picture", "squeezed", "cut away"]

# Set on 1,250 crops of single words (IC13, IC15, SVT, SVTP, CUTE80), few of which are beyond them. Recognizers take
# pictures four times as wide as high.
WIDEST_GAP, WIDEST_CHARACTER, WIDE_ASPECT, SQUEEZED_ASPECT = 0.6, 1.35, 3.0, 10.0
# A picture of so many pixels on its shorter side that is not wide is read with some confidence if it is one word.
LARGE_SIDE, SURE = 300, 0.9
LONGEST_TEXT = 25
_ROWS, _INK, _LEAST_CONTRAST = 32, 0.2, 4.0


def widest_gap(picture: Image.Image) -> float:
    """Columns in a row that are plain, with text on both sides, over the picture's height."""
    columns = max(4, min(round(picture.width * _ROWS / picture.height), 100 * _ROWS))
    grey = np.asarray(picture.convert("L").resize((columns, _ROWS), Image.Resampling.BILINEAR), float)
    contrast = grey.std(axis=0)
    most = np.percentile(contrast, 90)
    text = np.flatnonzero(contrast > _INK * most)
    if most < _LEAST_CONTRAST or len(text) < 2:
        return 0.0
    return float(np.diff(text).max() - 1) / _ROWS


def doubt_of(size: tuple[int, int], gap: float, word: Prediction) -> Doubt | None:
    """Why what was read may not be all that the picture says; None: nothing speaks for it.

    Args:
        size: (width, height) of the picture in pixels.
        gap: as ``widest_gap`` has it.
    """
    width, height = size
    aspect = width / height
    if min(width, height) >= LARGE_SIDE and aspect < WIDE_ASPECT and word.confidence < SURE:
        return "whole picture"
    if aspect > SQUEEZED_ASPECT:
        return "squeezed"
    is_sparse = aspect > WIDE_ASPECT and aspect > WIDEST_CHARACTER * len(word.text)
    if gap > WIDEST_GAP or is_sparse or len(word.text) >= LONGEST_TEXT:
        return "cut away"
    return None


def doubts_sentence(doubted: Mapping[Doubt, Sequence[str]], num_words: int, detects: bool) -> str:
    """What a person is told at the end; '' without doubts. ``doubted``: the pictures of each kind."""
    if not doubted:
        return ""
    said: dict[Doubt, str] = {
        "whole picture": "whole pictures rather than words",
        "squeezed": f"more than {SQUEEZED_ASPECT:g} times as wide as high, so that the text is squeezed",
        "cut away": "with more text than was read",
    }
    kinds = ", ".join(f"{len(of)} {said[kind]} (first {of[0]})" for kind, of in doubted.items())
    way_out = "" if detects else "; --detect finds the words in a picture"
    return f"{sum(map(len, doubted.values()))} of {num_words} readings may not be all that is written: {kinds}{way_out}"
