"""Is a data set whole? Every record is decoded, and its number compared with what the literature says."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from kdltr_core.data.lmdb_store import LmdbStore
from kdltr_core.data.pack import read_sample
from kdltr_core.data.rejected import RecordError, RejectionReport
from kdltr_core.files import Progress

# Samples of the named sets: benchmark subsets first, then train. Of TextZoom's train1 and train2 only the sum is known.
EXPECTED_COUNTS: dict[str, tuple[int, ...]] = {
    "easy": (1619,),
    "medium": (1411,),
    "hard": (1343,),
    "ic13": (857, 1015),
    "ic15": (1811, 2077, 4468),
    "cute80": (288,),
    "svt": (647, 257),
    "svtp": (645,),
    "iiit5k": (3000, 2000),
}


@dataclass(frozen=True)
class Verified:
    """One row of the table: the set's folder, "paired" or "single", and the samples that cannot be used."""

    name: str
    kind: str
    report: RejectionReport

    @property
    def problems(self) -> list[str]:
        named = re.match(r"[a-z0-9]*", self.name.lower())
        expected, found = EXPECTED_COUNTS.get(named[0], ()) if named else (), []
        if expected and self.report.num_samples not in expected:
            found.append(f"expected {' or '.join(map(str, expected))} samples")
        if not self.report.is_clean:
            found.append(self.report.describe())
        return found


def verify(root: Path, progress: Progress | None = None) -> Verified:
    """Read and decode every record of an LMDB, as packing does.

    Args:
        root: its folder, whose name tells which set it is.
        progress: called with (samples done, samples in all).

    Raises: ValueError if it is not an LMDB in a known layout.
    """
    store = LmdbStore.open(root)
    report = RejectionReport(len(store), num_unread=store.num_unread())
    for i in range(1, len(store) + 1):
        try:
            read_sample(store, i)
        except RecordError as error:
            report.add(error.reason, error.key)
        if progress is not None:
            progress(i, len(store))
    return Verified(root.resolve().name, store.kind, report)


def to_markdown(rows: Sequence[Verified]) -> str:
    """A table with a row for each set."""
    lines = ["| set | layout | samples | state |", "|---|---|---:|---|"]
    for row in rows:
        lines.append(f"| {row.name} | {row.kind} | {row.report.num_samples} | {'; '.join(row.problems) or 'whole'} |")
    return "\n".join(lines)
