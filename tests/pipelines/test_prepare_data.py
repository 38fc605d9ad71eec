from __future__ import annotations

import errno
from pathlib import Path

import pytest

from kdltr_core.data.lmdb_store import LmdbStore
from pipelines import prepare_data
from pipelines.run.command_line import answer_mistakes
from tests.kdltr_core.data.sets import drawn, png, single_records, write_records


def run(*arguments: object) -> int:
    return answer_mistakes(lambda: prepare_data.main([str(argument) for argument in arguments]))


def test_verify_prints_a_row_for_each_set_and_ends_with_1_if_one_is_not_whole(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_records(tmp_path / "sets" / "first", single_records(["a"]))
    write_records(tmp_path / "sets" / "second", single_records(["b", "c"]))
    assert run("verify", tmp_path / "sets") == 0
    rows = capsys.readouterr().out.splitlines()[2:]
    assert [row.split("|")[1].strip() for row in rows] == ["first", "second"]
    write_records(tmp_path / "SVTP", single_records(["a"]))  # the real one has more
    assert run("verify", tmp_path / "SVTP") == 1


def test_a_root_that_is_no_lmdb_gives_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("verify", tmp_path) == 2
    errors = capsys.readouterr().err.strip().splitlines()
    assert len(errors) == 1
    assert errors[0].startswith(f"error: {tmp_path} is not an LMDB")


def test_convert_then_pack(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "words"
    folder.mkdir()
    (folder / "a.png").write_bytes(png(drawn(1)))
    (folder / "labels.tsv").write_text("a.png\tword\n")
    assert run("convert", folder) == 0
    assert LmdbStore.open(tmp_path / "words_lmdb").label(1) == "word"
    assert run("pack", tmp_path / "words_lmdb", "--cache-folder", tmp_path / "cache") == 0
    assert "1 single pairs, 0 of 1 rejected" in capsys.readouterr().out
    assert len(list((tmp_path / "cache").glob("*.pack"))) == 1
    assert run("convert", folder) == 2


def test_render_makes_a_set(tmp_path: Path) -> None:
    assert run("render", tmp_path / "drawn", "-n", 3, "--seed", 5) == 0
    store = LmdbStore.open(tmp_path / "drawn")
    assert (store.kind, len(store)) == ("single", 3)


def test_a_full_disk_gives_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(*arguments: object, **options: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.replace", full)
    root = write_records(tmp_path / "words", single_records(["a"]))
    assert run("pack", root, "--cache-folder", tmp_path / "cache") == 1
    assert capsys.readouterr().err.strip().splitlines()[-1].startswith(f"error: the pack of {root} cannot be written")
