"""A folder of parts: what was read stays read, and nothing else is taken for it."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from kdltr_core import Prediction
from pipelines.prediction.parts import MANIFEST, Block, PartsFolder, blocks_of, part_bytes
from pipelines.prediction.reading import Row
from pipelines.prediction.sources import ImageFile, Skipped

JOB = {"student": "abc", "detect": "off"}


@pytest.fixture
def sources(tmp_path: Path) -> list[ImageFile]:
    files = [tmp_path / f"{name}.png" for name in "abcde"]
    for file in files:
        file.write_text(file.name)
    return [ImageFile.at(str(file)) for file in files]


def read(block: Block) -> bytes:
    """As a worker does: the first image of every block is unreadable."""
    rows = [Row(source.name, Prediction("word", 0.5, (0.9,) * 4)) for source in block.sources[1:]]
    return part_bytes(block.key, len(block.sources), rows, [Skipped(block.sources[0].name, "it is empty")], False)


def read_all(folder: PartsFolder, blocks: list[Block]) -> list[int]:
    """Reads what is not read yet; which blocks these were."""
    to_read = [block for block in blocks if folder.find(block) is None]
    for block in to_read:
        folder.add(block, read(block))
    return [block.number for block in to_read]


def test_every_image_is_in_one_block_in_order(sources: list[ImageFile]) -> None:
    for size, expected in {1: [1] * 5, 2: [2, 2, 1], 5: [5], 9: [5]}.items():
        blocks = blocks_of(sources, size, JOB)
        assert [len(block.sources) for block in blocks] == expected
        assert [source for block in blocks for source in block.sources] == sources
        assert [block.number for block in blocks] == list(range(len(expected)))


def test_only_blocks_with_changed_images_are_read_again(sources: list[ImageFile], tmp_path: Path) -> None:
    folder = PartsFolder(tmp_path / "words", JOB)
    blocks = blocks_of(sources, 2, JOB)
    with folder.held():
        assert read_all(folder, blocks) == [0, 1, 2]
        assert read_all(folder, blocks_of(sources, 2, JOB)) == []
        Path(sources[2].path).write_text("another image")
        assert read_all(folder, blocks_of(sources, 2, JOB)) == [1]
        Path(sources[4].path).unlink()
        assert read_all(folder, blocks_of(sources, 2, JOB)) == [2]


def test_a_part_that_is_cut_short_is_read_again(sources: list[ImageFile], tmp_path: Path) -> None:
    folder = PartsFolder(tmp_path / "words", JOB)
    blocks = blocks_of(sources, 2, JOB)
    with folder.held():
        read_all(folder, blocks)
        for block, damage in zip(blocks, (lambda data: data[: len(data) // 2], lambda data: b""), strict=False):
            file = tmp_path / "words" / block.file
            file.write_bytes(damage(file.read_bytes()))
        with pytest.raises(ValueError, match=r"part-000000-.* is gone or damaged"):
            folder.finish(blocks)
        assert read_all(folder, blocks) == [0, 1]


def test_the_manifest_adds_up_and_parts_of_former_images_go(sources: list[ImageFile], tmp_path: Path) -> None:
    place = tmp_path / "words"
    folder = PartsFolder(place, JOB)
    with folder.held():
        assert json.loads((place / MANIFEST).read_text()) == {"job": JOB, "state": "unfinished"}
        read_all(folder, blocks_of(sources, 2, JOB))
        Path(sources[0].path).write_text("another image")
        blocks = blocks_of(sources, 2, JOB)
        read_all(folder, blocks)
        skipped = folder.finish(blocks)
    assert [image.image for image in skipped] == [sources[i].name for i in (0, 2, 4)]
    manifest = json.loads((place / MANIFEST).read_text())
    assert (manifest["state"], manifest["num_images"], manifest["num_words"]) == ("finished", 5, 2)
    assert [part["file"] for part in manifest["parts"]] == sorted(path.name for path in place.glob("part-*"))
    # What reads a folder of Parquet files takes the parts and nothing else, in the order of the images.
    assert pq.read_table(place)["image"].to_pylist() == [sources[1].name, sources[3].name]


@pytest.mark.parametrize("change", [{"student": "abd"}, {"detect": "words"}])
def test_the_words_of_another_job_are_left_alone(change: dict[str, Any], tmp_path: Path) -> None:
    with PartsFolder(tmp_path / "words", JOB).held():
        pass
    with pytest.raises(ValueError, match=f"were read with another {next(iter(change))}; give another --output"):
        PartsFolder(tmp_path / "words", JOB | change)
    assert blocks_of([], 2, JOB) == []


def test_a_folder_of_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(ValueError, match="holds something else"):
        PartsFolder(tmp_path, JOB)
    assert os.listdir(tmp_path) == ["thesis.tex"]
    (tmp_path / MANIFEST).write_text("{")
    with pytest.raises(ValueError, match="holds something else"):
        PartsFolder(tmp_path, JOB)


def test_two_at_a_time_are_refused(tmp_path: Path) -> None:
    one, other = (PartsFolder(tmp_path / "words", JOB) for _ in range(2))
    with one.held(), pytest.raises(ValueError, match="another process is writing"), other.held():
        pass
    with other.held():
        pass
