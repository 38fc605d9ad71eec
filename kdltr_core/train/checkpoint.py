"""Checkpoints of a run: whole or not there at all, the last few and the best kept."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import warnings
from pathlib import Path
from typing import Any

import torch

from kdltr_core.files import NotWritten, remedy, whole_folder

FORMAT = 1


class CheckpointStore:
    """The checkpoints of one run, one folder a step.

    A folder is written beside its place and renamed into it, with the size and hash of its contents: a reader sees it
    whole or not at all, and a damaged one is recognised.

    Args:
        folder: made when first written to.
        keep_last: how many of the newest are kept, beside the best.
    """

    def __init__(self, folder: Path, keep_last: int) -> None:
        self.folder = folder
        self.keep_last = keep_last

    def save(self, step: int, state: dict[str, Any], best_step: int) -> Path:
        """Write a checkpoint, then remove those that are neither among the last nor the best.

        Raises: NotWritten; the earlier ones are untouched and nothing half-written is left.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        place = self.folder / f"step-{step:08d}"
        for left_over in self.folder.glob(".writing-*"):
            shutil.rmtree(left_over, ignore_errors=True)
        try:
            with whole_folder(place) as writing:
                with (writing / "state.pt").open("wb") as file:
                    torch.save(state, file)
                    file.flush()
                    os.fsync(file.fileno())
                summary = {"format": FORMAT, "step": step, "sha256": _sha256(writing / "state.pt")}
                (writing / "checkpoint.json").write_text(json.dumps(summary))
        except (OSError, RuntimeError) as error:
            raise NotWritten(
                f"the checkpoint {place} could not be written ({error}); {remedy(error)}, or choose another "
                "output_folder"
            ) from error
        for old in self.steps()[: -self.keep_last]:
            if old != best_step:
                shutil.rmtree(self.folder / f"step-{old:08d}", ignore_errors=True)
        return place

    def steps(self) -> list[int]:
        """The steps there are checkpoints of, ascending."""
        return sorted(int(p.name.removeprefix("step-")) for p in self.folder.glob(f"step-{'[0-9]' * 8}") if p.is_dir())

    def newest(self) -> dict[str, Any] | None:
        """The newest whole checkpoint, on the CPU; None without one. A damaged one is passed over with a warning."""
        for step in reversed(self.steps()):
            place = self.folder / f"step-{step:08d}"
            try:
                return read_checkpoint(place)
            except ValueError as error:
                warnings.warn(f"{error}; the checkpoint before it is used", stacklevel=2)
        return None


def read_checkpoint(place: Path) -> dict[str, Any]:
    """The state in a checkpoint folder, on the CPU. Raises: ValueError if it is damaged or of another format."""
    try:
        summary = json.loads((place / "checkpoint.json").read_text())
        digest = _sha256(place / "state.pt")
    except (OSError, json.JSONDecodeError) as error:
        raise ValueError(f"the checkpoint {place} is not whole ({error})") from error
    if summary.get("format") != FORMAT:
        raise ValueError(f"the checkpoint {place} is of format {summary.get('format')}, this version reads {FORMAT}")
    if digest != summary.get("sha256"):
        raise ValueError(f"the checkpoint {place} is not what was written: its hash differs")
    return torch.load(place / "state.pt", map_location="cpu", weights_only=True)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
