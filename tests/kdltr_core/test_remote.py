"""What a URI names is read and written whole, fetched once, and what goes wrong is said with the way out."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from kdltr_core.charset import Charset36
from kdltr_core.config import RunConfig
from kdltr_core.data.dataset import load_datasets
from kdltr_core.remote import (
    CHUNK_BYTES,
    LMDB_FILE,
    ObjectStore,
    StoreUnreachable,
    check_there,
    fetch,
    is_uri,
    local_path,
    under,
)
from tests.kdltr_core.data.sets import paired_records, single_records, write_records
from tests.object_store import Bucket

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(
    ("text", "is_one"),
    [
        ("s3://bucket/sets/IC13", True),
        ("file:///data/IC13", True),
        ("sets/IC13", False),
        ("", False),
        ("C://data", False),
        ("/data/s3://bucket", False),
    ],
)
def test_a_uri_has_a_scheme(text: str, is_one: bool) -> None:
    assert is_uri(text) is is_one


def test_a_path_and_a_file_uri_are_that_path_and_not_copied(tmp_path: Path) -> None:
    assert local_path("file:///data/two%20words") == Path("/data/two words")
    assert local_path("s3://bucket/data") is None
    assert fetch("file:///data/two%20words", tmp_path / "cache") == Path("/data/two words")
    assert fetch("~/sets", tmp_path / "cache") == Path.home() / "sets"
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize(
    ("uri", "expected"),
    [
        ("s3://bucket/runs/", "s3://bucket/runs/first/student"),
        ("s3://bucket", "s3://bucket/first/student"),
        ("s3://bucket/runs?region=eu-west-1", "s3://bucket/runs/first/student?region=eu-west-1"),
    ],
)
def test_what_lies_under_a_place_keeps_its_query(uri: str, expected: str) -> None:
    assert under(uri, "first", "student") == expected


def test_objects_are_those_that_amazons_client_writes_and_reads(bucket: Bucket, tmp_path: Path) -> None:
    bucket.put("sets/one", b"1")
    bucket.put("other/three", b"333")
    store = ObjectStore(f"{bucket.uri}/sets/")
    store.put("inner/two words", b"22")
    store.put("empty", b"")
    assert bucket.objects() == ["other/three", "sets/empty", "sets/inner/two words", "sets/one"]
    assert bucket.get("sets/inner/two words") == b"22"
    assert {name: file.size for name, file in store.files().items()} == {"empty": 0, "inner/two words": 2, "one": 1}
    assert store.read("one") == b"1"
    assert store.file("two") is None
    assert (store.name, store.parent_name) == ("sets", bucket.name)
    single = ObjectStore(f"{bucket.uri}/sets/one")
    assert [(name, file.size) for name, file in single.files().items()] == [("", 1)]
    single.download("", tmp_path / "one")
    assert (tmp_path / "one").read_bytes() == b"1"


def test_an_object_of_many_chunks_comes_whole_and_in_order(bucket: Bucket, tmp_path: Path) -> None:
    content = np.random.default_rng(0).bytes(2 * CHUNK_BYTES + 5)
    bucket.put("large", content)
    ObjectStore(bucket.uri).download("large", tmp_path / "new" / "large")
    assert (tmp_path / "new" / "large").read_bytes() == content


@pytest.mark.parametrize(
    ("uri", "said"),
    [
        ("nonsense://bucket/x", r"nonsense://bucket/x cannot be opened: .*Expected a URI such as s3://bucket/folder"),
        ("https://example.org/set", r"cannot be opened: .*Expected a URI such as s3://bucket/folder"),
        ("s3://bucket/x?reigon=eu", r"cannot be opened: .*'reigon'"),
        ("s3://", "names no bucket; expected something like"),
    ],
)
def test_a_uri_that_is_not_understood_is_refused(uri: str, said: str, bucket: Bucket) -> None:
    with pytest.raises(ValueError, match=said):
        ObjectStore(uri)


@pytest.mark.parametrize("uri", ["s3://mykey:mysecret@bucket/x", "s3://bucket/x?region=eu&client_secret=mysecret"])
def test_a_password_is_refused_and_not_repeated(bucket: Bucket, uri: str) -> None:
    with pytest.raises(ValueError, match=r"bucket/x holds a password, .* set AWS_ACCESS_KEY_ID") as caught:
        ObjectStore(uri)
    assert "mysecret" not in str(caught.value)


def test_what_a_store_does_not_do_is_said_with_its_name_and_what_to_look_at(bucket: Bucket) -> None:
    elsewhere = ObjectStore("s3://no-such-bucket/sets")
    assert elsewhere.files() == {}
    silent = ObjectStore(f"{bucket.uri}/x?endpoint_override=127.0.0.1:9&scheme=http&region=us-east-1")
    for action, uri in (
        (lambda: ObjectStore(f"{bucket.uri}/sets").read("none"), f"{bucket.uri}/sets/none"),
        (lambda: elsewhere.put("one", b""), "s3://no-such-bucket/sets/one"),
        (silent.files, f"{bucket.uri}/x"),
    ):
        with pytest.raises(StoreUnreachable, match=rf"^{uri}.* cannot be read or written .*AWS_ACCESS_KEY_ID"):
            action()


@pytest.fixture
def sets(bucket: Bucket, tmp_path: Path) -> Path:
    """Two LMDBs, here and under sets/ in the bucket, where a picture lies beside them."""
    folder = tmp_path / "sets"
    write_records(folder / "train1", paired_records(["cafe", "plate", "sign"]))
    write_records(folder / "train2", single_records(["street"], first_seed=50))
    bucket.put_tree(folder, "sets")
    bucket.put("sets/photo.jpg", b"not asked for")
    return folder


def tree(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def test_a_folder_of_lmdbs_comes_with_its_names_and_nothing_beside_them(
    bucket: Bucket, sets: Path, tmp_path: Path
) -> None:
    assert "sets/train1/lock.mdb" in bucket.objects()
    local = fetch(f"{bucket.uri}/sets/", tmp_path / "cache", only=LMDB_FILE)
    assert local.name == "sets"
    assert tree(local) == ["train1/data.mdb", "train2/data.mdb"]
    for name in ("train1", "train2"):
        assert (local / name / "data.mdb").read_bytes() == (sets / name / "data.mdb").read_bytes()


def test_a_whole_copy_is_used_again_and_so_is_a_copy_of_the_cache(bucket: Bucket, sets: Path, tmp_path: Path) -> None:
    uri, seen = f"{bucket.uri}/sets/train1", []
    first = fetch(uri, tmp_path / "cache", lambda done, total: seen.append((done, total)))
    size = sum(path.stat().st_size for path in (sets / "train1").iterdir())
    assert seen[-1] == (size, size)
    assert (first.parent.name, first.name) == ("sets", "train1")
    assert fetch(uri, tmp_path / "cache") == first
    shutil.copytree(tmp_path / "cache", tmp_path / "other")
    fetch(uri, tmp_path / "other")
    assert bucket.num_reads("sets/train1/data.mdb") == 1


@pytest.mark.parametrize("damage", [lambda file: os.truncate(file, 1000), Path.unlink])
def test_a_damaged_copy_is_fetched_again(
    damage: Callable[[Path], None], bucket: Bucket, sets: Path, tmp_path: Path
) -> None:
    uri, original = f"{bucket.uri}/sets/train1", (sets / "train1" / "data.mdb").read_bytes()
    file = fetch(uri, tmp_path / "cache", only=LMDB_FILE) / "data.mdb"
    damage(file)
    assert fetch(uri, tmp_path / "cache", only=LMDB_FILE) == file.parent
    assert file.read_bytes() == original
    assert bucket.num_reads("sets/train1/data.mdb") == 2


def test_what_changed_in_the_store_is_fetched_again_though_it_has_the_same_size(bucket: Bucket, tmp_path: Path) -> None:
    bucket.put("weights.pt", b"one two")
    written = bucket.server.client("s3").head_object(Bucket=bucket.name, Key="weights.pt")["LastModified"]
    local = fetch(f"{bucket.uri}/weights.pt", tmp_path)
    while bucket.server.client("s3").head_object(Bucket=bucket.name, Key="weights.pt")["LastModified"] == written:
        bucket.put("weights.pt", b"two one")  # a store's clock counts seconds
    assert fetch(f"{bucket.uri}/weights.pt", tmp_path).read_bytes() == local.read_bytes() == b"two one"
    assert bucket.num_reads("weights.pt") == 2


FETCH_AND_DIE = """
import os, signal, sys
from kdltr_core.remote import fetch
fetch(sys.argv[1], sys.argv[2], lambda done, total: os.kill(os.getpid(), signal.SIGKILL))
"""


def test_a_process_killed_while_fetching_leaves_nothing_that_counts(bucket: Bucket, tmp_path: Path) -> None:
    for name in ("sets/a", "sets/b"):
        bucket.put(name, name.encode())
    uri = f"{bucket.uri}/sets"
    process = subprocess.run([sys.executable, "-c", FETCH_AND_DIE, uri, tmp_path])
    assert process.returncode == -signal.SIGKILL
    assert [path.name for path in tmp_path.rglob("[ab]")] == ["a"]
    local = fetch(uri, tmp_path)
    assert (local / "b").read_bytes() == b"sets/b"
    assert sorted(tmp_path.rglob("[ab]")) == [local / "a", local / "b"]


def test_what_changes_while_it_is_fetched_is_not_kept(bucket: Bucket, tmp_path: Path) -> None:
    bucket.put("sets/data.mdb", bytes(1000))
    with pytest.raises(StoreUnreachable, match=f"{bucket.uri}/sets was changed while it was fetched"):
        fetch(f"{bucket.uri}/sets", tmp_path, lambda done, total: bucket.put("sets/data.mdb", bytes(999)))
    assert list(tmp_path.rglob("data.mdb")) == []


def test_a_full_disk_is_said_and_earlier_copies_stay(bucket: Bucket, small_disk: Path) -> None:
    bucket.put("small.pt", b"1" * 1000)
    bucket.put("large.pt", b"1" * 1_000_000)
    small = fetch(f"{bucket.uri}/small.pt", small_disk)
    with pytest.raises(OSError, match=rf"{bucket.uri}/large.pt cannot be kept .*it takes 1\.0 MB.*data\.cache_folder"):
        fetch(f"{bucket.uri}/large.pt", small_disk)
    assert small.read_bytes() == b"1" * 1000
    assert list(small_disk.rglob("large.pt")) == []


def test_nothing_to_fetch_is_a_mistake_with_a_way_out_and_looking_fetches_nothing(
    bucket: Bucket, sets: Path, tmp_path: Path
) -> None:
    check_there(f"{bucket.uri}/sets", only=LMDB_FILE)
    assert bucket.num_reads("sets/train1/data.mdb") == 0
    bucket.put("photos/one.jpg", b"")
    for look in (check_there, partial(fetch, cache_folder=tmp_path)):
        with pytest.raises(ValueError, match=f"there is nothing to fetch at {bucket.uri}/stes: .* correct"):
            look(f"{bucket.uri}/stes")
        with pytest.raises(ValueError, match=r"photos: 1 files are there, none of them data\.mdb.*convert"):
            look(f"{bucket.uri}/photos", only=LMDB_FILE)


def test_a_run_learns_from_a_bucket_what_it_learns_from_a_folder(bucket: Bucket, tmp_path: Path) -> None:
    labels = [f"word{i}" for i in range(30)]
    write_records(tmp_path / "IC13" / "train", single_records(labels))
    write_records(tmp_path / "IC15" / "train", single_records(labels[:5], first_seed=100))
    bucket.put_tree(tmp_path / "IC13", "IC13")
    bucket.put_tree(tmp_path / "IC15", "IC15")

    def words(place: str, cache: str) -> tuple[list[str], list[int], list[str]]:
        changes = {
            "data.cache_folder": str(tmp_path / cache),
            "data.train_roots": (f"{place}/IC13/train",),
            "data.benchmark_roots": (f"{place}/IC13/train", f"{place}/IC15/train"),
        }
        opened = load_datasets(RunConfig().override(changes).data, Charset36)
        return opened.train.labels, opened.train.image_hashes.tolist(), list(opened.benchmarks)

    assert words(bucket.uri, cache="one") == words(str(tmp_path), cache="another")
