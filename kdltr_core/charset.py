"""Character sets, and the one place that folds text for evaluation."""

from __future__ import annotations

import string
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Literal

Protocol = Literal["36", "62", "94"]

CHARACTERS_36 = "abcdefghijklmnopqrstuvwxyz1234567890"
# The order of the official PARSeq checkpoints.
CHARACTERS_94 = string.digits + string.ascii_lowercase + string.ascii_uppercase + string.punctuation

# Letters and signs that Unicode does not take apart into a basic letter and a mark.
_BASIC = str.maketrans(
    {"ß": "ss", "ẞ": "SS", "æ": "ae", "Æ": "AE", "œ": "oe", "Œ": "OE", "ø": "o", "Ø": "O", "đ": "d", "Đ": "D"}
    | {"ð": "d", "Ð": "D", "ł": "l", "Ł": "L", "ħ": "h", "Ħ": "H", "ŧ": "t", "Ŧ": "T", "þ": "th", "Þ": "TH", "ı": "i"}
    | {"‘": "'", "’": "'", "“": '"', "”": '"', "‐": "-", "–": "-", "—": "-", "−": "-", "⁄": "/"}
)
_MOST_LOST = 1 / 4
_ALNUM = frozenset(string.ascii_letters + string.digits)
_PRINTABLE = frozenset(CHARACTERS_94)


def plain(text: str) -> str:
    """The text in basic letters as far as it has them: "CAFÉ" is "CAFE", "Straße" "Strasse", "ﬁn" "fin", "½" "1/2".

    Unicode's compatibility decomposition (NFKD) without its marks, and a small table for what that does not take apart;
    letters of other scripts stay as they are.
    """
    if text.isascii():
        return text
    decomposed = unicodedata.normalize("NFKD", text).translate(_BASIC)
    return "".join(c for c in decomposed if not unicodedata.combining(c))


def fold(text: str, protocol: Protocol = "36") -> str:
    """Reduce a reading or a label to what the evaluation protocol compares.

    First both are written in basic letters, as by ``plain``, the rule of PARSeq's evaluation, so that "CAFÉ" is CAFE
    and not CAF. Then all is left out, in labels and predictions alike, but "36": letters and digits of ASCII,
    lower-cased; "62": letters and digits, case kept; "94": printable ASCII without spaces. A word is right if nothing
    else differs.
    """
    if protocol not in ("36", "62", "94"):
        raise ValueError(f"unknown protocol {protocol!r}; expected '36', '62' or '94'")
    kept = "".join(filter((_PRINTABLE if protocol == "94" else _ALNUM).__contains__, plain(text)))
    return kept.lower() if protocol == "36" else kept


@cache
def _ascii_outside(characters: str) -> dict[int, None]:
    return dict.fromkeys(code for code in range(128) if chr(code) not in characters)


@dataclass(frozen=True)
class Charset:
    """A recognizer's alphabet: which class id stands for which character.

    Attributes:
        name: what checkpoints record, so that a student of another alphabet is refused.
        characters: in class order; class id of ``characters[i]`` is ``i + 1``, and 0 is the end class.
        fold_case: whether labels are lower-cased before they are encoded.
    """

    name: str
    characters: str
    fold_case: bool

    end_id = 0

    @property
    def num_classes(self) -> int:
        """Size of the recognizer's output: the characters and the end class."""
        return len(self.characters) + 1

    @property
    def begin_id(self) -> int:
        return len(self.characters) + 1

    @property
    def pad_id(self) -> int:
        return len(self.characters) + 2

    def normalise(self, label: str) -> str:
        """What this alphabet can write of the label in basic letters; what is outside never turns into end."""
        text = self._written(label)
        if text.isascii():  # much faster, and there may be millions
            return text.translate(_ascii_outside(self.characters))
        return "".join(c for c in text if c in self.characters)

    def outside(self, label: str) -> str:
        """The characters that ``normalise`` leaves out, without spaces."""
        return "".join(c for c in self._written(label) if c not in self.characters and not c.isspace())

    def loses_too_much(self, label: str) -> bool:
        """Whether more than a quarter of the letters and digits are outside, so that it says another word.

        Punctuation does not count: an alphabet of letters and digits leaves it out by intention.
        """
        lost = sum(c.isalnum() for c in self.outside(label))
        return lost > _MOST_LOST * (lost + sum(c.isalnum() for c in self.normalise(label)))

    def _written(self, label: str) -> str:
        text = plain(label)
        return text.lower() if self.fold_case else text

    def encode(self, label: str) -> list[int]:
        """Class ids of the encodable characters, without begin, end or pad.

        Raises: ValueError if no character of the label is in the alphabet.
        """
        text = self.normalise(label)
        if not text:
            raise ValueError(f"the label {label!r} has no character of the {self.name} alphabet; leave this sample out")
        return [self.characters.index(c) + 1 for c in text]

    def decode(self, ids: Sequence[int]) -> str:
        """Characters up to the first end class."""
        text = []
        for i in ids:
            if i == self.end_id:
                break
            text.append(self.characters[i - 1])
        return "".join(text)


Charset36 = Charset("36", CHARACTERS_36, fold_case=True)
Charset94 = Charset("94", CHARACTERS_94, fold_case=False)
