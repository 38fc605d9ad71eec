"""Files are there whole or not at all; a lock keeps others out; a damaged file of ours is named with the way out."""

import errno
import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from kdltr_core.files import DamagedFile, HeldByAnother, locked, read_json, remedy, whole_file, whole_folder, write_text


def _fail_in(writer: object) -> None:
    with writer as writing:  # type: ignore[attr-defined]
        (writing / "new" if writing.is_dir() else writing).write_text("half")
        raise ZeroDivisionError


def test_what_fails_leaves_what_was_there_before_and_nothing_else(tmp_path: Path) -> None:
    file, folder = tmp_path / "file.txt", tmp_path / "folder"
    file.write_text("before")
    folder.mkdir()
    (folder / "old").write_text("before")
    for writer in (whole_file(file), whole_folder(folder)):
        with pytest.raises(ZeroDivisionError):
            _fail_in(writer)
    assert sorted(p.relative_to(tmp_path).as_posix() for p in tmp_path.rglob("*")) == [
        "file.txt", "folder", "folder/old"
    ]  # fmt: skip
    assert file.read_text() == (folder / "old").read_text() == "before"


def test_what_goes_well_takes_the_place_of_what_was_there(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "old").touch()
    with whole_folder(tmp_path / "folder") as writing:
        (writing / "new").touch()
    write_text(tmp_path / "folder" / "word", "été")
    assert sorted(p.name for p in (tmp_path / "folder").iterdir()) == ["new", "word"]
    assert (tmp_path / "folder" / "word").read_text(encoding="utf-8") == "été"


def test_what_a_killed_process_left_of_a_folder_is_removed(tmp_path: Path) -> None:
    with whole_folder(tmp_path / "folder") as left_over:
        name = left_over.name
    (tmp_path / name).mkdir()
    (tmp_path / name / "half").touch()
    with whole_folder(tmp_path / "folder") as writing:
        (writing / "new").touch()
    assert [p.name for p in (tmp_path / "folder").iterdir()] == ["new"]


def test_a_lock_of_another_process_is_waited_for_so_long(tmp_path: Path) -> None:
    hold = "import sys; from kdltr_core.files import locked\nwith locked(sys.argv[1]): print(flush=True); input()"
    with subprocess.Popen(
        [sys.executable, "-c", hold, str(tmp_path / "lock")], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        with pytest.raises(HeldByAnother, match="another process holds"), locked(tmp_path / "lock", 0.1):
            pass
        holder.communicate(b"\n")
    with locked(tmp_path / "lock", 0):
        pass


@dataclass(frozen=True)
class _Record:
    state: str
    params: dict[str, float]
    seconds: float | None = None


def test_fields_of_a_newer_version_are_ignored_and_missing_ones_have_their_defaults(tmp_path: Path) -> None:
    (tmp_path / "trial.json").write_text(json.dumps({"state": "FINISHED", "params": {"a": 1}, "of_2030": True}))
    assert read_json(tmp_path / "trial.json", _Record, "delete it") == _Record("FINISHED", {"a": 1.0}, None)


@pytest.mark.parametrize(
    ("content", "where"),
    [
        (b'{"state": "FINI', "line 1 column 15"),
        (b"\xff\xfe{}", "Invalid JSON"),
        (b'{"state": "RUNNING", "params": {"a": "much"}}', "params.a: .*number"),
        (b'{"state": "RUNNING"}', "params: Field required"),
    ],
)
def test_a_damaged_file_is_named_with_the_place_and_the_way_out(tmp_path: Path, content: bytes, where: str) -> None:
    (tmp_path / "trial.json").write_bytes(content)
    with pytest.raises(DamagedFile, match=rf"trial\.json is damaged \(.*{where}.*\); delete it and start again"):
        read_json(tmp_path / "trial.json", _Record, "delete it and start again")


def test_room_is_asked_for_only_where_room_is_what_is_missing() -> None:
    assert "space" in remedy(OSError(errno.ENOSPC, "No space left on device"))
    assert "writable" in remedy(PermissionError(errno.EACCES, "Permission denied"))
    assert "locks" in remedy(OSError(errno.ENOLCK, "No locks available"))
    assert "space" not in remedy(OSError(errno.EIO, "Input/output error"))
