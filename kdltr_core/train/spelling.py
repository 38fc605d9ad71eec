"""Words as a careless reader gives them: characters replaced, put in, left out."""

from __future__ import annotations

import string

import numpy as np

# Of no, one, two and three places of a word; and of what happens there.
NUM_PLACES_SHARES = (0.70, 0.15, 0.10, 0.05)
REPLACED_SHARE, PRECEDED_SHARE = 0.70, 0.15  # the rest is left out

_DIGITS_SHARE = 0.5


def misspell(word: str, rng: np.random.Generator, max_length: int = 25) -> str:
    """One reading of a word, most often the word itself.

    The probabilities are those of ABINet's public implementation (Fang et al. 2021, its spelling mutation): a place is
    replaced by a random letter, preceded by one, or left out. Of words of two to four characters one place at most is
    touched, of longer ones half of them. A single character, and what is half digits, follows no spelling and stays.

    Args:
        word: one character or more.
        max_length: what is longer is cut off.

    Returns: between 1 and ``max_length`` characters.
    """
    num_digits = sum(character in string.digits for character in word)
    if len(word) < 2 or num_digits >= _DIGITS_SHARE * len(word):
        return word[:max_length]
    most = 1 if len(word) <= 4 else len(word) // 2
    num_places = min(int(rng.choice(len(NUM_PLACES_SHARES), p=NUM_PLACES_SHARES)), most)
    characters = list(word)
    for place in rng.choice(len(word), num_places, replace=False):
        chance, letter = rng.random(), string.ascii_lowercase[rng.integers(26)]
        if chance < REPLACED_SHARE:
            characters[place] = letter
        elif chance < REPLACED_SHARE + PRECEDED_SHARE:
            characters[place] = letter + word[place]
        else:
            characters[place] = ""
    return "".join(characters)[:max_length]
