"""Rejected samples: which of a set cannot be used, and why; and what could not be used of labels."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from typing import Literal

RejectReason = Literal[
    "missing image", "missing label", "corrupt image", "corrupt label", "empty label", "over-long label",
    "no encodable character", "label mostly outside the alphabet",
    "far larger than a word", "nothing read", "low confidence", "picture of a benchmark", "has a label",
]  # fmt: skip
_CHARACTERS_SHOWN = 5


class RecordError(ValueError):
    """One record cannot be used; ``reason`` says which way."""

    def __init__(self, reason: RejectReason, key: str, detail: str = "") -> None:
        super().__init__(f"{key}: {reason}{f' ({detail})' if detail else ''}")
        self.reason: RejectReason = reason
        self.key = key


@dataclass
class RejectionReport:
    """Rejected samples of one set.

    Attributes:
        num_samples: how many the set says it has.
        keys: the rejected samples' source keys by reason; a sample is listed once, under the first reason found.
        num_unread: images beside these, whose number is 0 or beyond ``num_samples``.
        lost: characters that were left out of labels that are used: how often, and the first such label.
    """

    num_samples: int
    keys: dict[RejectReason, list[str]] = field(default_factory=dict)
    num_unread: int = 0
    lost: dict[str, tuple[int, str]] = field(default_factory=dict)

    def add(self, reason: RejectReason, key: str) -> None:
        self.keys.setdefault(reason, []).append(key)

    def add_lost(self, characters: str, label: str) -> None:
        for character in characters:
            count, first = self.lost.get(character, (0, label))
            self.lost[character] = count + 1, first

    @property
    def num_rejected(self) -> int:
        return sum(map(len, self.keys.values()))

    @property
    def is_clean(self) -> bool:
        """Whether there is nothing to tell."""
        return not (self.num_rejected or self.num_unread or self.lost)

    def describe(self) -> str:
        """For example "3 of 647 rejected: 2 empty label (label-000000004, …), 1 corrupt image (image-000000009)"."""
        parts = [
            f"{len(keys)} {reason} ({', '.join(keys[:2])}{', …' if len(keys) > 2 else ''})"
            for reason, keys in self.keys.items()
        ]
        said = f"{self.num_rejected} of {self.num_samples} rejected" + (f": {', '.join(parts)}" if parts else "")
        if "far larger than a word" in self.keys:
            said += "; words have to be cut out of whole pictures: predict.py --detect tells where they are"
        if self.num_unread:
            said += (
                f"; {self.num_unread} more images are not read, since keys count from 1 to num-samples "
                f"({self.num_samples}): correct that record or the keys if they are meant"
            )
        if self.lost:
            most = sorted(self.lost.items(), key=lambda item: -item[1][0])[:_CHARACTERS_SHOWN]
            shown = ", ".join(f"{character!r} {count} times, as in {label!r}" for character, (count, label) in most)
            more = f", and {len(self.lost) - len(most)} others" if len(self.lost) > len(most) else ""
            said += f"; left out of labels, being outside the alphabet: {shown}{more}"
        return said

    def check(self, name: str, max_rejected_fraction: float) -> None:
        """Raises: ValueError if more than ``max_rejected_fraction`` of the samples were rejected."""
        if self.num_rejected > max_rejected_fraction * self.num_samples:
            raise ValueError(
                f"{name}: {self.describe()}; that is more than data.max_rejected_fraction = {max_rejected_fraction:g} "
                "allows. Mend the set, or raise that field if the loss is meant."
            )

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> RejectionReport:
        return cls(**json.loads(text))
