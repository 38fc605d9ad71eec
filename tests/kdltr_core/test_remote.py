"""What a URI names is fetched once, whole, and again only when the copy or the original is no longer what it was."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from kdltr_core.charset import Charset36
from kdltr_core.config import RunConfig
from kdltr_core.data.dataset import load_datasets
from kdltr_core.data.lmdb_store import LmdbStore
from kdltr_core.object_store import StoreUnreachable
from kdltr_core.remote import LMDB_FILE, check_there, fetch
from tests.kdltr_core.data.sets import paired_records, single_records, write_records
from tests.object_store import Bucket

pytestmark = pytest.mark.slow


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
        copy, original = LmdbStore.open(local / name), LmdbStore.open(sets / name)
        assert [copy.label(i) for i in range(1, len(copy) + 1)] == [
            original.label(i) for i in range(1, len(original) + 1)
        ]


def test_one_lmdb_has_the_name_of_its_folder_and_of_the_one_above(bucket: Bucket, sets: Path, tmp_path: Path) -> None:
    local = fetch(f"{bucket.uri}/sets/train1", tmp_path / "cache", only=LMDB_FILE)
    assert (local.parent.name, local.name) == ("sets", "train1")
    assert (local / "data.mdb").read_bytes() == (sets / "train1" / "data.mdb").read_bytes()


def test_a_single_file_is_fetched_with_progress_in_bytes(bucket: Bucket, tmp_path: Path) -> None:
    content = np.random.default_rng(1).bytes(20_000_000)
    bucket.put("weights/teacher.pt", content)
    seen: list[tuple[int, int]] = []
    local = fetch(f"{bucket.uri}/weights/teacher.pt", tmp_path, lambda done, total: seen.append((done, total)))
    assert local.name == "teacher.pt"
    assert local.read_bytes() == content
    assert len(seen) > 1
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)
    assert seen[-1] == (20_000_000, 20_000_000)


def test_a_folder_comes_with_all_its_files_where_no_pattern_is_given(bucket: Bucket, tmp_path: Path) -> None:
    for name in ("student.safetensors", "config.yaml"):
        bucket.put(f"runs/first/student/{name}", name.encode())
    local = fetch(f"{bucket.uri}/runs/first/student", tmp_path)
    assert tree(local) == ["config.yaml", "student.safetensors"]


def test_a_whole_copy_is_used_again(bucket: Bucket, sets: Path, tmp_path: Path) -> None:
    uri = f"{bucket.uri}/sets/train1"
    first = fetch(uri, tmp_path / "cache")
    assert fetch(uri, tmp_path / "cache") == first
    assert bucket.num_reads("sets/train1/data.mdb") == 1


def truncated(file: Path) -> None:
    os.truncate(file, file.stat().st_size // 2)


def changed(file: Path) -> None:
    before = file.stat()
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))


def unrecorded(file: Path) -> None:
    for record in file.parents[2].glob("*.json"):
        record.write_text("{")


@pytest.mark.parametrize("damage", [truncated, changed, Path.unlink, unrecorded])
def test_a_damaged_copy_is_fetched_again(
    damage: Callable[[Path], None], bucket: Bucket, sets: Path, tmp_path: Path
) -> None:
    uri, original = f"{bucket.uri}/sets/train1", (sets / "train1" / "data.mdb").read_bytes()
    file = fetch(uri, tmp_path / "cache", only=LMDB_FILE) / "data.mdb"
    damage(file)
    assert fetch(uri, tmp_path / "cache", only=LMDB_FILE) == file.parent
    assert file.read_bytes() == original
    assert bucket.num_reads("sets/train1/data.mdb") == 2


@pytest.mark.parametrize("content", [b"another set", b"one two"], ids=["another size", "the same size"])
def test_what_changed_in_the_store_is_fetched_again(content: bytes, bucket: Bucket, tmp_path: Path) -> None:
    bucket.put("weights.pt", b"one two")
    written = bucket.server.client("s3").head_object(Bucket=bucket.name, Key="weights.pt")["LastModified"]
    local = fetch(f"{bucket.uri}/weights.pt", tmp_path)
    while bucket.server.client("s3").head_object(Bucket=bucket.name, Key="weights.pt")["LastModified"] == written:
        bucket.put("weights.pt", content)  # a store's clock counts seconds
    assert fetch(f"{bucket.uri}/weights.pt", tmp_path).read_bytes() == content
    assert bucket.num_reads("weights.pt") == 2
    assert local.read_bytes() == content


FETCH_WHEN_TOLD = """
import sys, time
from pathlib import Path
from kdltr_core.remote import fetch
uri, cache, ready, go = sys.argv[1:]
Path(ready).touch()
while not Path(go).exists():
    time.sleep(0.001)
print(fetch(uri, cache))
"""


def test_processes_that_ask_at_once_fetch_once(bucket: Bucket, tmp_path: Path) -> None:
    content = np.random.default_rng(2).bytes(8_000_000)
    bucket.put("weights.pt", content)
    go = tmp_path / "go"
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", FETCH_WHEN_TOLD, f"{bucket.uri}/weights.pt", tmp_path, tmp_path / f"ready-{i}", go],
            stdout=subprocess.PIPE,
            text=True,
        )
        for i in range(3)
    ]
    while not all((tmp_path / f"ready-{i}").exists() for i in range(3)):
        assert all(process.poll() is None for process in processes)
    go.touch()
    answers = {process.communicate()[0].strip() for process in processes}
    assert [process.returncode for process in processes] == [0, 0, 0]
    assert len(answers) == 1
    assert Path(answers.pop()).read_bytes() == content
    assert bucket.num_reads("weights.pt") == 1


FETCH_AND_DIE = """
import os, signal, sys
from kdltr_core.remote import fetch
fetch(sys.argv[1], sys.argv[2], lambda done, total: os.kill(os.getpid(), signal.SIGKILL))
"""


def test_a_process_killed_while_fetching_leaves_nothing_that_counts(bucket: Bucket, tmp_path: Path) -> None:
    content = np.random.default_rng(3).bytes(20_000_000)
    bucket.put("weights.pt", content)
    uri = f"{bucket.uri}/weights.pt"
    process = subprocess.run([sys.executable, "-c", FETCH_AND_DIE, uri, tmp_path])
    assert process.returncode == -signal.SIGKILL
    assert [path.name for path in tmp_path.rglob("weights.pt")] == ["weights.pt"]  # a part of it
    local = fetch(uri, tmp_path)
    assert local.read_bytes() == content
    assert list(tmp_path.rglob("weights.pt")) == [local]


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


def test_nothing_to_fetch_is_a_mistake_with_a_way_out(bucket: Bucket, sets: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=f"there is nothing at {bucket.uri}/stes; correct"):
        fetch(f"{bucket.uri}/stes", tmp_path)
    bucket.put("photos/one.jpg", b"")
    with pytest.raises(ValueError, match=r"photos is not an LMDB .* no data\.mdb among its 1 files.*convert"):
        fetch(f"{bucket.uri}/photos", tmp_path, only=LMDB_FILE)


def test_a_file_uri_is_the_path_itself(tmp_path: Path) -> None:
    assert fetch(f"{tmp_path.as_uri()}/set", tmp_path / "cache") == tmp_path / "set"
    assert not (tmp_path / "cache").exists()


def test_a_path_is_the_path_itself(tmp_path: Path) -> None:
    assert fetch("~/sets", tmp_path / "cache") == Path.home() / "sets"
    assert not (tmp_path / "cache").exists()


def test_looking_whether_it_is_there_fetches_nothing(bucket: Bucket, sets: Path, tmp_path: Path) -> None:
    check_there(f"{bucket.uri}/sets", only=LMDB_FILE)
    assert bucket.num_reads("sets/train1/data.mdb") == 0
    bucket.put("photos/one.jpg", b"")
    with pytest.raises(ValueError, match="photos is not an LMDB"):
        check_there(f"{bucket.uri}/photos", only=LMDB_FILE)
    with pytest.raises(ValueError, match="there is nothing at"):
        check_there(f"{bucket.uri}/stes")


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
