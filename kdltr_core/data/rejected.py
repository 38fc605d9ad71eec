"""Which samples of a set cannot be used, and why."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Literal

RejectReason = Literal[
    "missing image", "missing label", "corrupt image", "corrupt label", "empty label", "over-long label",
    "no encodable character",
]  # fmt: skip


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
    """

    num_samples: int
    keys: dict[RejectReason, list[str]] = field(default_factory=dict)

    def add(self, reason: RejectReason, key: str) -> None:
        self.keys.setdefault(reason, []).append(key)

    @property
    def counts(self) -> dict[str, int]:
        return {reason: len(keys) for reason, keys in self.keys.items()}

    @property
    def num_rejected(self) -> int:
        return sum(self.counts.values())

    def describe(self) -> str:
        """For example "3 of 647 rejected: 2 empty label (label-000000004, …), 1 corrupt image (image-000000009)"."""
        parts = [
            f"{len(keys)} {reason} ({', '.join(keys[:2])}{', …' if len(keys) > 2 else ''})"
            for reason, keys in self.keys.items()
        ]
        return f"{self.num_rejected} of {self.num_samples} rejected" + (f": {', '.join(parts)}" if parts else "")

    def check(self, name: str, max_rejected_fraction: float) -> None:
        """Raises: ValueError if more than a fraction of ``max_rejected_fraction`` was rejected."""
        if self.num_rejected > max_rejected_fraction * self.num_samples:
            raise ValueError(
                f"{name}: {self.describe()}; that is more than data.max_rejected_fraction = {max_rejected_fraction:g} "
                "allows. Mend the set, or raise that field if the loss is meant."
            )

    def to_json(self) -> str:
        return json.dumps({"num_samples": self.num_samples, "keys": self.keys})

    @classmethod
    def from_json(cls, text: str) -> RejectionReport:
        tree = json.loads(text)
        return cls(int(tree["num_samples"]), tree["keys"])
