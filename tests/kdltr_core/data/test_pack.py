from __future__ import annotations

import hashlib
import io
import multiprocessing
import os
import pickle
import resource
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from kdltr_core.data.degrade import degrade
from kdltr_core.data.pack import FORMAT_VERSION, Pack, UnusablePack, build_pack
from tests.kdltr_core.data.sets import drawn, paired_records, png, single_records, write_records

LABELS = ["one", "Two", "3!", "four", "five"]


def _resized(encoded: bytes, width: int, height: int) -> np.ndarray:
    """PIL's bicubic, (3, height, width)."""
    image = Image.open(io.BytesIO(encoded)).convert("RGB")
    return np.asarray(image.resize((width, height), Image.Resampling.BICUBIC)).transpose(2, 0, 1)


def test_a_paired_pack_holds_each_side_resized_in_any_order_asked(tmp_path: Path) -> None:
    records = paired_records(LABELS)
    pack = build_pack(write_records(tmp_path / "pairs", records), cache_folder=tmp_path / "cache")
    assert (pack.name, pack.kind, len(pack), pack.labels) == ("pairs", "paired", 5, LABELS)
    assert pack.keys == [f"image_hr-{i:09d}" for i in range(1, 6)]
    wanted = np.array([4, 0, 0, 2])
    high_res, low_res = pack.gather(wanted)
    for row, i in enumerate(wanted):
        np.testing.assert_array_equal(high_res[row], _resized(records[f"image_hr-{i + 1:09d}"], 128, 32))
        np.testing.assert_array_equal(low_res[row], _resized(records[f"image_lr-{i + 1:09d}"], 64, 16))
        digest = hashlib.blake2b(records[f"image_hr-{i + 1:09d}"], digest_size=8).digest()
        assert int(pack.image_hashes[i]) == int.from_bytes(digest, "little")


@pytest.mark.parametrize("degradation", ["none", "published"])
def test_low_res_of_a_single_set_is_the_resized_image_degraded_by_its_index(tmp_path: Path, degradation: str) -> None:
    records = single_records(LABELS)
    pack = build_pack(write_records(tmp_path / "s", records), cache_folder=tmp_path, degradation=degradation)  # type: ignore[arg-type]
    _, low_res = pack.gather(np.arange(5))
    for i in range(5):
        clean = _resized(records[f"image-{i + 1:09d}"], 64, 16).transpose(1, 2, 0)
        expected = clean if degradation == "none" else degrade(clean, i + 1, "published")
        np.testing.assert_array_equal(low_res[i], expected.transpose(2, 0, 1))


def test_what_is_gathered_is_a_copy(tmp_path: Path) -> None:
    pack = build_pack(write_records(tmp_path / "s", single_records(LABELS)), cache_folder=tmp_path)
    before, _ = pack.gather(np.array([1]))
    changed, _ = pack.gather(np.array([1]))
    changed.zero_()
    assert (pack.gather(np.array([1]))[0] == before).all()
    assert (pickle.loads(pickle.dumps(pack)).gather(np.array([1]))[0] == before).all()


def _damaged_records() -> dict[str, bytes]:
    """Eight samples; 1 and 8 are good. The next one is never read in the place of a bad one."""
    records = single_records(["good", "b", "c", "d", "", "x" * 26, "g", "last"])
    del records["image-000000002"], records["label-000000003"]
    records["image-000000004"] = b"no picture"
    records["image-000000007"] = records["image-000000007"][:200]
    return records


def test_unusable_samples_are_counted_by_reason_and_listed_and_the_others_stay_in_place(tmp_path: Path) -> None:
    root = write_records(tmp_path / "damaged", _damaged_records())
    pack = build_pack(root, cache_folder=tmp_path / "cache")
    assert pack.labels == ["good", "last"]
    assert pack.keys == ["image-000000001", "image-000000008"]
    assert pack.report.num_samples == 8
    assert pack.report.keys == {
        "missing image": ["image-000000002"],
        "missing label": ["label-000000003"],
        "corrupt image": ["image-000000004", "image-000000007"],
        "empty label": ["image-000000005"],
        "over-long label": ["image-000000006"],
    }
    high_res, _ = pack.gather(np.array([1]))
    np.testing.assert_array_equal(high_res[0], _resized(png(drawn(8)), 128, 32))


def test_a_set_of_which_nothing_is_left_is_an_error(tmp_path: Path) -> None:
    root = write_records(tmp_path / "s", single_records(["", " "]))
    with pytest.raises(ValueError, match="nothing is left to pack"):
        build_pack(root, cache_folder=tmp_path / "cache")


def test_the_fingerprint_follows_content_degradation_and_limits_but_not_the_place(tmp_path: Path) -> None:
    records = single_records(LABELS)
    first = write_records(tmp_path / "a" / "s", records)
    moved = write_records(tmp_path / "b" / "s", {})
    (moved / "data.mdb").write_bytes((first / "data.mdb").read_bytes())
    other = write_records(tmp_path / "c" / "s", records | {"label-000000001": b"uno"})

    cache = tmp_path / "cache"
    plain = build_pack(first, cache_folder=cache).fingerprint
    assert build_pack(moved, cache_folder=cache).fingerprint == plain
    others = {
        build_pack(other, cache_folder=cache).fingerprint,
        build_pack(first, cache_folder=cache, degradation="published").fingerprint,
        build_pack(first, cache_folder=cache, labelled=False).fingerprint,
    }
    assert len(others | {plain}) == 4


def _build_and_count(root: Path, cache: Path) -> tuple[int, list[str]]:
    calls: list[int] = []
    pack = build_pack(root, cache_folder=cache, progress=lambda done, total: calls.append(done))
    return len(calls), pack.labels


def test_processes_that_ask_at_the_same_time_build_it_once(tmp_path: Path) -> None:
    root = write_records(tmp_path / "s", single_records(LABELS * 8))
    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn")) as processes:
        answers = [processes.submit(_build_and_count, root, tmp_path / "cache") for _ in range(2)]
        built, labels = zip(*[answer.result() for answer in answers], strict=True)
    assert sorted(built) == [0, 40]
    assert _build_and_count(root, tmp_path / "cache") == (0, LABELS * 8)
    assert labels[0] == labels[1] == LABELS * 8


def _of_another_version(pack: Path) -> None:
    table = pq.read_table(pack / "words.parquet")
    pq.write_table(
        table.replace_schema_metadata(table.schema.metadata | {b"format_version": b"999"}), pack / "words.parquet"
    )


def _cut_short(pack: Path) -> None:
    os.truncate(pack / "high_res", 1000)


def _overwritten(pack: Path) -> None:
    (pack / "words.parquet").write_bytes(b"something else")


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (_of_another_version, f"format version 999, and this is version {FORMAT_VERSION}"),
        (_cut_short, "greater than file size"),
        (_overwritten, "Parquet"),
    ],
)
def test_a_pack_that_is_broken_or_of_another_version_is_refused_and_built_again(
    tmp_path: Path, spoil: Callable[[Path], None], reason: str
) -> None:
    root = write_records(tmp_path / "s", single_records(LABELS))
    path = build_pack(root, cache_folder=tmp_path / "cache").path
    spoil(path)
    with pytest.raises(UnusablePack, match=f"is not a whole pack of this version .*{reason}"):
        Pack(path)
    with pytest.warns(UserWarning, match=f"{reason}.*; it is built again"):
        assert build_pack(root, cache_folder=tmp_path / "cache").labels == LABELS
    assert Pack(path).labels == LABELS


def test_a_full_disk_gives_one_sentence_and_leaves_no_half_pack(tmp_path: Path) -> None:
    """Files of the child may not grow beyond 40 kB, and five pairs take 77 kB."""
    root = write_records(tmp_path / "s", single_records(LABELS))
    cache = str(tmp_path / "cache")
    program = f"from kdltr_core.data.pack import build_pack; build_pack({str(root)!r}, cache_folder={cache!r})"
    child = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (40_000, 40_000)),
        check=False,
    )
    assert child.returncode == 1
    assert f"the pack of {root} cannot be written in {tmp_path / 'cache'}" in child.stderr.splitlines()[-1]
    assert [file.suffix for file in (tmp_path / "cache").iterdir()] == [".lock"]
    assert build_pack(root, cache_folder=tmp_path / "cache").labels == LABELS
