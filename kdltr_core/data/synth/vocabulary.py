"""What is written on signs, receipts and number plates: words of our own list, numbers, prices, dates, codes."""

from __future__ import annotations

import string
from functools import cache
from importlib import resources

import numpy as np

_NUMBER_SHARE = 0.28
_PUNCTUATED_SHARE = 0.08
_UNITS = ("kg", "g", "ml", "cm", "mm", "m", "km", "mph", "am", "pm", "th", "GB", "W", "V", "x", "oz")
_PLATE_LETTERS = "ABCDEFGHJKLMNPRSTUVWXYZ"


@cache
def words() -> tuple[str, ...]:
    """The word list that comes with the package, lower-case, sorted."""
    return tuple(resources.files("kdltr_core.assets").joinpath("words.txt").read_text(encoding="ascii").split())


def draw_text(rng: np.random.Generator) -> str:
    """One text of 1 to 16 printable ASCII characters without spaces, at least one of them a letter or a digit."""
    if rng.random() < _NUMBER_SHARE:
        return _with_digits(rng)
    listed = words()
    word = listed[rng.integers(len(listed))]
    word = (word.upper(), word.capitalize(), word)[rng.choice(3, p=(0.45, 0.33, 0.22))]
    if rng.random() < _PUNCTUATED_SHARE:
        plural = "'S" if word.isupper() else "'s"
        word = (word + "!", word + ",", word + ".", word + ":", word + plural, f'"{word}"', f"({word})")[
            rng.integers(7)
        ]
    return word


def _with_digits(rng: np.random.Generator) -> str:
    kind = rng.integers(11)
    if kind == 0:  # house and room numbers
        return _digits(rng, int(rng.integers(1, 5)))
    if kind == 1:
        return f"{('$', '', '')[rng.integers(3)]}{rng.integers(100)}.{rng.integers(100):02d}"
    if kind == 2:
        mark = "/.-"[rng.integers(3)]
        return f"{rng.integers(1, 32):02d}{mark}{rng.integers(1, 13):02d}{mark}{rng.integers(1990, 2030)}"
    if kind == 3:
        return f"{rng.integers(24)}:{rng.integers(60):02d}"
    if kind == 4:
        return f"{_digits(rng, 3)}-{_digits(rng, 4)}"
    if kind == 5:
        return f"{_letters(rng, 2)}{_digits(rng, 2)}{_letters(rng, 3)}"
    if kind == 6:
        return f"{_letters(rng, 3)}-{_digits(rng, 3)}"
    if kind == 7:
        return f"{rng.integers(1, 20) * 5}%"
    if kind == 8:
        return f"{rng.integers(1, 1000)}{_UNITS[rng.integers(len(_UNITS))]}"
    if kind == 9:  # roads, models, platforms
        return f"{_letters(rng, 1)}{_digits(rng, int(rng.integers(1, 5)))}"
    return str(rng.integers(1900, 2030))


def _letters(rng: np.random.Generator, count: int) -> str:
    return "".join(_PLATE_LETTERS[i] for i in rng.integers(len(_PLATE_LETTERS), size=count))


def _digits(rng: np.random.Generator, count: int) -> str:
    return "".join(string.digits[i] for i in rng.integers(10, size=count))
