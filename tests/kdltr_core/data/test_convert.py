from __future__ import annotations

from pathlib import Path

import pytest

from kdltr_core.data.convert import convert
from kdltr_core.data.lmdb_store import LmdbStore
from tests.kdltr_core.data.sets import drawn, png


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "words"
    (folder / "deep").mkdir(parents=True)
    for name in ("a.png", "b.png", "deep/c d.png"):
        (folder / name).write_bytes(png(drawn(len(name))))
    return folder


def labels_file(folder: Path, text: str) -> Path:
    path = folder / "labels.tsv"
    path.write_bytes(text.encode())
    return path


def test_a_single_set_keeps_the_bytes_of_its_images_and_its_labels(folder: Path, tmp_path: Path) -> None:
    labels = labels_file(folder, "\ufeffa.png\tÉté\r\n\ndeep/c d.png\tit's 2\n")
    calls: list[tuple[int, int]] = []
    store = convert(folder, labels, tmp_path / "out", progress=lambda done, total: calls.append((done, total)))
    assert (store.kind, len(store)) == ("single", 2)
    assert [store.label(1), store.label(2)] == ["Été", "it's 2"]
    assert store.image(2) == (folder / "deep/c d.png").read_bytes()
    assert calls == [(2, 2)]


def test_three_columns_make_a_paired_set(folder: Path, tmp_path: Path) -> None:
    store = convert(folder, labels_file(folder, "a.png\tb.png\tword\n"), tmp_path / "out")
    assert (store.kind, len(store), store.label(1)) == ("paired", 1, "word")
    assert store.image(1) == (folder / "a.png").read_bytes()
    assert store.image(1, 1) == (folder / "b.png").read_bytes()


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("a.png\tx\nmissing.png\ty\n", r"line 2: .*No such file .*missing\.png"),
        ("a.png\tx\nb.png\n", "line 2: 1 tab-separated columns, expected 2 "),
        ("a.png x\n", "line 1: 1 tab-separated columns, expected 2 "),
        ("a.png\tx\nb.png\t \n", "line 2: the label is empty"),
        ("a.png\tx\nbroken.png\ty\n", r"line 2: .*broken\.png: corrupt image"),
        ("\n", "has no lines"),
        ("\n".join(f"no{i}.png\tx" for i in range(9)), "line 5: .*; and 4 more"),
    ],
)
def test_bad_lines_are_named_and_nothing_is_written(folder: Path, tmp_path: Path, text: str, sentence: str) -> None:
    (folder / "broken.png").write_bytes(png(drawn(0))[:100])
    before = sorted(tmp_path.iterdir())
    with pytest.raises(ValueError, match=sentence):
        convert(folder, labels_file(folder, text), tmp_path / "out")
    assert sorted(tmp_path.iterdir()) == before


def test_what_is_there_is_not_overwritten(folder: Path, tmp_path: Path) -> None:
    convert(folder, labels_file(folder, "a.png\tfirst\n"), tmp_path / "out")
    with pytest.raises(ValueError, match="is there already and is not overwritten"):
        convert(folder, labels_file(folder, "a.png\tsecond\n"), tmp_path / "out")
    assert LmdbStore.open(tmp_path / "out").label(1) == "first"


def test_a_missing_folder_or_a_label_file_that_cannot_be_read_is_named(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"No such file .*nowhere/a.png"):
        convert(tmp_path / "nowhere", labels_file(folder, "a.png\tx"), tmp_path / "out")
    for content in (None, b"a.png\t\xff\n"):
        (folder / "labels.tsv").unlink() if content is None else (folder / "labels.tsv").write_bytes(content)
        with pytest.raises(ValueError, match=r"the label file .*labels\.tsv cannot be read .*; write one in UTF-8"):
            convert(folder, folder / "labels.tsv", tmp_path / "out")


def test_many_samples_fit(folder: Path, tmp_path: Path) -> None:
    """The map is sized from the files, however small they are and however many."""
    store = convert(folder, labels_file(folder, "a.png\tx\n" * 3000), tmp_path / "out")
    assert len(store) == 3000
