"""What the workers of a trial hold of the cluster, noted so that it can be given back when the trial is lost.

Ray frees it by itself only where its dashboard runs, which a small cluster of this machine's own is without.
"""

from __future__ import annotations

from pathlib import Path

from ray._common.utils import hex_to_binary
from ray._raylet import PlacementGroupID
from ray.util import get_current_placement_group, remove_placement_group
from ray.util.placement_group import PlacementGroup

PLACE_FILE = "placement_group.txt"


def note_place(folder: Path) -> None:
    """On one worker of the trial in this folder, when it begins."""
    group = get_current_placement_group()
    if group is not None:
        (folder / PLACE_FILE).write_text(group.id.hex(), encoding="utf-8")


def release_place(folder: Path) -> None:
    """Ends the workers of the trial in this folder, if there are any left, and frees what they held."""
    note = folder / PLACE_FILE
    if note.exists():
        remove_placement_group(PlacementGroup(PlacementGroupID(hex_to_binary(note.read_text(encoding="utf-8")))))
        note.unlink()
