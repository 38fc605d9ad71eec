"""Texts of every kind that people photograph: words, names, numbers, plates, codes, prices, dates, meters."""

from __future__ import annotations

import string
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from kdltr_core.charset import CHARACTERS_94
from kdltr_core.config import TEXT_SHARES, TextKind
from kdltr_core.data.synth.vocabulary import patterns, words

_PUNCTUATED_SHARE = 0.08
_LOWER_SHARE = 0.5  # of the texts with a month, a day's half or a unit in letters
_MONTHS = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"]
_DAYS = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"]
_PREFIXES = ("Mc", "O'", "Mac", "De", "San", "St.")
_PREFIXED_SHARE, _JOINED_SHARE, _OPEN_SHARE = 0.06, 0.05, 0.1
_PLATE_LETTERS = "ABCDEFGHJKLMNPRSTUVWXYZ"  # those that countries use
_CLASSES = {"0": string.digits, "9": "123456789", "@": _PLATE_LETTERS, "&": string.digits + string.ascii_uppercase}


def draw_text(rng: np.random.Generator, shares: Mapping[TextKind, float] = TEXT_SHARES) -> str:
    """One text of 1 to 25 printable ASCII characters without spaces, at least one of them a letter or a digit.

    Args:
        shares: how much there is of each kind, as parts of their sum.
    """
    kinds = list(shares)
    weights = np.array([shares[kind] for kind in kinds], float)
    kind = kinds[rng.choice(len(kinds), p=weights / weights.sum())]
    return _DRAW[kind](rng) if kind in _DRAW else _filled(kind, rng)


def _word(rng: np.random.Generator) -> str:
    word = _one_of(words(), rng)
    word = (word.upper(), word.capitalize(), word)[rng.choice(3, p=(0.45, 0.33, 0.22))]
    if rng.random() < _PUNCTUATED_SHARE:
        plural = "'S" if word.isupper() else "'s"
        marked = (word + "!", word + ",", word + ".", word + ":", word + plural, f'"{word}"', f"({word})")
        return _one_of(marked, rng)
    return word


def _name(rng: np.random.Generator) -> str:
    """What could be the name of a person, a place or a shop and stands in no list."""
    name = _syllables(rng)
    if rng.random() < _PREFIXED_SHARE:
        name = _one_of(_PREFIXES, rng) + name
    elif rng.random() < _JOINED_SHARE and len(name) < 9:
        name = f"{name}{_one_of('-&', rng)}{_syllables(rng)}"
    return name.upper() if rng.random() < 0.5 else name


def _syllables(rng: np.random.Generator) -> str:
    open_ones = [_one_of(patterns("onsets"), rng) + _one_of(patterns("vowels"), rng) for _ in range(rng.integers(1, 3))]
    coda = "" if rng.random() < _OPEN_SHARE else _one_of(patterns("codas"), rng)
    return ("".join(open_ones) + coda + _one_of(patterns("endings"), rng)).capitalize()


def _date(rng: np.random.Generator) -> str:
    year, hour, month = int(rng.integers(1980, 2040)), int(rng.integers(24)), int(rng.integers(12))
    values = {
        "%Y": f"{year}",
        "%y": f"{year % 100:02d}",
        "%m": f"{month + 1:02d}",
        "%b": _MONTHS[month],
        "%d": f"{rng.integers(1, 32):02d}",
        "%a": _one_of(_DAYS, rng),
        "%H": f"{hour:02d}",
        "%I": f"{(hour - 1) % 12 + 1}",
        "%M": f"{rng.integers(60):02d}",
        "%S": f"{rng.integers(60):02d}",
        "%p": "AM" if hour < 12 else "PM",
    }
    date = _one_of(patterns("dates"), rng)
    for directive, value in values.items():
        date = date.replace(directive, value)
    return date if rng.random() < _LOWER_SHARE else date.upper()


def _filled(kind: str, rng: np.random.Generator) -> str:
    pattern = _one_of(patterns(kind), rng)
    return "".join(_one_of(_CLASSES[c], rng) if c in _CLASSES else c for c in pattern)


def _random(rng: np.random.Generator) -> str:
    letters, digits = string.ascii_letters, string.digits
    alphabets = (string.ascii_uppercase, digits, string.ascii_uppercase + digits, letters + digits, CHARACTERS_94)
    alphabet = _one_of(alphabets, rng)
    text = "".join(_one_of(alphabet, rng) for _ in range(rng.integers(1, 11)))
    return text if any(map(str.isalnum, text)) else text + _one_of(letters, rng)


def _one_of(choices: Sequence[str], rng: np.random.Generator) -> str:
    return choices[int(rng.integers(len(choices)))]


_DRAW: dict[TextKind, Callable[[np.random.Generator], str]] = {
    "words": _word,
    "names": _name,
    "dates": _date,
    "random": _random,
}
