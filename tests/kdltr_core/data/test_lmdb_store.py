from __future__ import annotations

import pickle
import resource
import shutil
from pathlib import Path

import lmdb
import pytest

from kdltr_core.data.lmdb_store import LmdbStore
from kdltr_core.data.rejected import RecordError
from tests.kdltr_core.data.sets import drawn, paired_records, png, single_records, write_records


def test_both_layouts_are_detected_and_read_by_one_based_keys(tmp_path: Path) -> None:
    single = LmdbStore.open(write_records(tmp_path / "single", single_records(["Ab", "c!"])))
    paired = LmdbStore.open(write_records(tmp_path / "paired", paired_records(["Ab", "c!", "d"])))
    assert (single.kind, len(single), single.label(1), single.label(2)) == ("single", 2, "Ab", "c!")
    assert single.image(2) == png(drawn(2))
    assert (paired.kind, len(paired), paired.label(3)) == ("paired", 3, "d")
    assert paired.image(3) == png(drawn(3))
    assert paired.image(3, 1) == png(drawn(3, 45, 15))
    assert pickle.loads(pickle.dumps(paired)).images(3) == [png(drawn(3)), png(drawn(3, 45, 15))]


def _without(records: dict[str, bytes], *keys: str) -> dict[str, bytes]:
    return {key: value for key, value in records.items() if key not in keys}


@pytest.mark.parametrize(
    ("records", "sentence"),
    [
        (_without(single_records(["a"]), "num-samples"), "'num-samples' is None"),
        ({"img-1": b"x", "img-2": b"y", "num-samples": b"2"}, "found 'img-1', 'img-2', .*expected 'image-%09d' or"),
        ({}, "found no record"),
        (single_records(["a"]) | {"num-samples": b"0"}, "'num-samples' is b'0'"),
        (single_records(["a"]) | {"num-samples": b"many"}, "'num-samples' is b'many'"),
    ],
)
def test_what_is_not_a_usable_set_is_refused_with_its_root(
    tmp_path: Path, records: dict[str, bytes], sentence: str
) -> None:
    root = write_records(tmp_path / "broken_set", records)
    with pytest.raises(ValueError, match=sentence) as caught:
        LmdbStore.open(root)
    assert str(root) in str(caught.value)


def test_what_is_not_an_lmdb_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"there is no folder .*nowhere"):
        LmdbStore.open(tmp_path / "nowhere")
    with pytest.raises(ValueError, match=f"no data.mdb in it.*convert {tmp_path}"):
        LmdbStore.open(tmp_path)
    (tmp_path / "data.mdb").write_bytes(b"not a data base" * 1000)
    with pytest.raises(ValueError, match=f"{tmp_path} cannot be read as an LMDB"):
        LmdbStore.open(tmp_path)


def test_a_file_that_is_cut_short_is_refused_rather_than_crashing_later(tmp_path: Path) -> None:
    root = write_records(tmp_path / "cut", single_records([f"word{i}" for i in range(50)]))
    whole = (root / "data.mdb").read_bytes()
    (root / "data.mdb").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match=r"is cut short: data\.mdb has"):
        LmdbStore.open(root)


def test_missing_and_unreadable_records_say_which_and_why(tmp_path: Path) -> None:
    records = _without(single_records(["a", "b", "c"]), "image-000000001", "label-000000002")
    store = LmdbStore.open(write_records(tmp_path / "gaps", records | {"label-000000003": b"\xff\xfe"}))
    for read, reason, key in (
        (lambda: store.image(1), "missing image", "image-000000001"),
        (lambda: store.label(2), "missing label", "label-000000002"),
        (lambda: store.label(3), "corrupt label", "label-000000003"),
    ):
        with pytest.raises(RecordError) as caught:
            read()
        assert (caught.value.reason, caught.value.key) == (reason, key)


def _renumbered(records: dict[str, bytes]) -> dict[str, bytes]:
    """Keys that count from 0."""
    return {f"{key[:-9]}{int(key[-9:]) - 1:09d}" if key[-1].isdigit() else key: value for key, value in records.items()}


@pytest.mark.parametrize(
    ("records", "num_unread"),
    [
        (single_records(["a", "b", "c"]), 0),
        (single_records(["a", "b", "c"]) | {"num-samples": b"1"}, 2),
        (paired_records(["a", "b", "c"]) | {"num-samples": b"2"}, 1),
        (_renumbered(single_records(["a", "b", "c"])), 1),
        (single_records(["a"]) | {"zoom": b"1", "image-x": b"2"}, 0),
    ],
)
def test_images_that_no_number_reaches_are_counted(tmp_path: Path, records: dict[str, bytes], num_unread: int) -> None:
    assert LmdbStore.open(write_records(tmp_path / "set", records)).num_unread() == num_unread


def test_a_set_is_known_again_by_what_is_in_it(tmp_path: Path) -> None:
    records = single_records([f"word{i}" for i in range(600)])
    first = LmdbStore.open(write_records(tmp_path / "one" / "set", records)).fingerprint()
    shutil.copytree(tmp_path / "one", tmp_path / "two")
    assert LmdbStore.open(tmp_path / "two" / "set").fingerprint() == first

    label = records | {"label-000000002": b"other"}  # as long, and made in one go as well
    assert LmdbStore.open(write_records(tmp_path / "three", label)).fingerprint() != first
    every_image = {key: value if key.startswith("label") else value[::-1] for key, value in records.items()}
    every_image["num-samples"] = b"600"
    assert LmdbStore.open(write_records(tmp_path / "four", every_image)).fingerprint() != first

    with lmdb.open(str(tmp_path / "two" / "set"), map_size=1 << 26) as environment, environment.begin(write=True) as to:
        to.put(b"image-000000002", records["image-000000002"][::-1])  # not among the few hundred that are looked at
    assert LmdbStore.open(tmp_path / "two" / "set").fingerprint() != first


def test_a_large_empty_map_is_not_read(tmp_path: Path) -> None:
    root = tmp_path / "set"
    root.mkdir()
    with lmdb.open(str(root), map_size=40 << 30, writemap=True) as environment, environment.begin(write=True) as to:
        for key, value in single_records(["a", "b"]).items():
            to.put(key.encode(), value)
    assert (root / "data.mdb").stat().st_size == 40 << 30
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    assert LmdbStore.open(root).fingerprint()
    assert resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before < 10_000  # pages; the file has ten million


def test_stores_of_one_folder_live_side_by_side_and_it_may_be_written_anew_once_they_are_gone(tmp_path: Path) -> None:
    root = write_records(tmp_path / "set", single_records(["old"]))
    first, second = LmdbStore.open(root), LmdbStore.open(root)
    assert first.label(1) == "old"
    del first
    assert second.label(1) == "old"
    del second
    (root / "data.mdb").unlink()
    (root / "lock.mdb").unlink()
    root.rmdir()
    write_records(root, single_records(["new"]))
    assert LmdbStore.open(root).label(1) == "new"
