"""A checkpoint is whole or not there at all."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
import torch

from kdltr_core.train.checkpoint import CheckpointStore, read_checkpoint


def state_of(step: int) -> dict[str, object]:
    return {"step": step, "weights": {"a": torch.full((1000,), float(step))}, "none": None}


def test_the_last_and_the_best_are_kept(tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path / "checkpoints", keep_last=2)
    for step in (0, 10, 20, 30, 40):
        store.save(step, state_of(step), best_step=10)
    assert store.steps() == [10, 30, 40]
    newest = store.newest()
    assert newest is not None
    assert newest["step"] == 40
    assert torch.equal(newest["weights"]["a"], torch.full((1000,), 40.0))


def test_a_store_without_checkpoints_has_no_newest(tmp_path: Path) -> None:
    assert CheckpointStore(tmp_path / "none", 2).newest() is None


@pytest.mark.parametrize("damage", ["truncated", "changed", "no summary", "no weights", "another format"])
def test_a_damaged_newest_is_passed_over_with_a_warning(damage: str, tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path, keep_last=3)
    for step in (1, 2):
        store.save(step, state_of(step), best_step=1)
    place = tmp_path / "step-00000002"
    weights, summary = place / "state.pt", place / "checkpoint.json"
    if damage == "truncated":
        os.truncate(weights, weights.stat().st_size // 2)
    elif damage == "changed":
        content = bytearray(weights.read_bytes())
        content[len(content) // 2] ^= 1
        weights.write_bytes(content)
    elif damage == "no summary":
        summary.unlink()
    elif damage == "no weights":
        weights.unlink()
    else:
        summary.write_text(json.dumps({**json.loads(summary.read_text()), "format": 99}))
    with pytest.warns(UserWarning, match="the checkpoint before it is used"):
        newest = store.newest()
    assert newest is not None
    assert newest["step"] == 1
    with pytest.raises(ValueError, match="step-00000002"):
        read_checkpoint(place)


def test_what_a_killed_writer_left_is_neither_read_nor_kept(tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path, keep_last=2)
    store.save(1, state_of(1), best_step=1)
    half = tmp_path / ".writing-00000002"
    half.mkdir()
    (half / "state.pt").write_bytes(b"half")
    newest = store.newest()
    assert newest is not None
    assert newest["step"] == 1
    store.save(3, state_of(3), best_step=1)
    assert not half.exists()


def test_a_full_disk_is_said_and_the_earlier_checkpoint_stays(small_disk: Path) -> None:
    store = CheckpointStore(small_disk / "checkpoints", keep_last=1)
    store.save(1, state_of(1), best_step=1)
    too_much = {"weights": torch.zeros(100_000)}
    with pytest.raises(OSError, match=r"step-00000002 could not be written .*; free some space there, or choose"):
        store.save(2, too_much, best_step=1)
    assert [p.name for p in store.folder.iterdir()] == ["step-00000001"]
    newest = store.newest()
    assert newest is not None
    assert newest["step"] == 1
    store.save(3, state_of(3), best_step=3)
    assert store.steps() == [3]
