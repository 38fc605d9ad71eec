"""Lists of words, for what learns from text alone."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

from kdltr_core.charset import Charset
from kdltr_core.data.synth.vocabulary import words as bundled_words

_FEWEST = 20


def read_word_list(path: str | Path, charset: Charset, max_length: int = 25) -> tuple[str, ...]:
    """The words of a text file, one a line, as the alphabet writes them, each once; too long ones are left out.

    Raises: ValueError if the file cannot be read or has fewer than 20 words.
    """
    try:
        lines = Path(path).expanduser().read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} cannot be read as UTF-8 text ({error}); give a file with one word a line") from error
    words = _usable(lines, charset, max_length)
    if len(words) < _FEWEST:
        raise ValueError(f"{path} has {len(words)} usable words, expected at least {_FEWEST}, one a line")
    return words


def bundled_word_list(charset: Charset, max_length: int = 25) -> tuple[str, ...]:
    """The list that comes with the package, of which rendered words are made as well."""
    return _usable(bundled_words(), charset, max_length)


def split_words(words: Sequence[str], held_out_share: float) -> tuple[list[str], list[str]]:
    """Words to train on, and words held out by their hash: the same in every order and company, one at the least."""
    hashes = {w: int.from_bytes(hashlib.blake2b(w.encode(), digest_size=8).digest(), "little") for w in words}
    limit = max(int(held_out_share * 2**64), min(hashes.values()))
    return [w for w in words if hashes[w] > limit], [w for w in words if hashes[w] <= limit]


def _usable(lines: Sequence[str], charset: Charset, max_length: int) -> tuple[str, ...]:
    normalised = dict.fromkeys(charset.normalise(line) for line in lines)
    return tuple(word for word in normalised if 0 < len(word) <= max_length)
