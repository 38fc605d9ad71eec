"""Character sets, and the one place that folds text for evaluation."""

from __future__ import annotations

import string
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

Protocol = Literal["36", "62", "94"]

CHARACTERS_36 = "abcdefghijklmnopqrstuvwxyz1234567890"
# The order of the official PARSeq checkpoints.
CHARACTERS_94 = string.digits + string.ascii_lowercase + string.ascii_uppercase + string.punctuation

_ALNUM = frozenset(string.ascii_letters + string.digits)
_PRINTABLE = frozenset(CHARACTERS_94)


def fold(text: str, protocol: Protocol = "36") -> str:
    """Reduce a reading or a label to what the evaluation protocol compares.

    "36": letters and digits, lower-cased; "62": letters and digits, case kept; "94": printable ASCII without spaces.
    """
    if protocol == "36":
        return "".join(c for c in text if c in _ALNUM).lower()
    if protocol == "62":
        return "".join(c for c in text if c in _ALNUM)
    if protocol == "94":
        return "".join(c for c in text if c in _PRINTABLE)
    raise ValueError(f"unknown protocol {protocol!r}; expected '36', '62' or '94'")


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
        """The part of the label that this alphabet can write; what is outside is dropped, never turned into end."""
        text = label.lower() if self.fold_case else label
        return "".join(c for c in text if c in self.characters)

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
