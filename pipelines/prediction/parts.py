"""A folder of words that many workers read: Parquet parts, each whole and of known images, and a manifest of them."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from kdltr_core.files import HeldByAnother, locked, whole_file, write_text
from pipelines.prediction.output import as_table
from pipelines.prediction.reading import Row
from pipelines.prediction.sources import Skipped, Source

# Programs that read a folder of Parquet files pass over names that begin so.
MANIFEST = "_manifest.json"
LOCK = "_lock"

_KEY, _SKIPPED, _NUM_IMAGES = "kdltr.block", "kdltr.skipped", "kdltr.num_images"


@dataclass(frozen=True)
class Block:
    """Images that are read together into one part.

    Attributes:
        number: its place among the blocks.
        key: of the images as they are now, and of what reads them: another key asks for another part.
    """

    number: int
    sources: tuple[Source, ...]
    key: str

    @property
    def file(self) -> str:
        return f"part-{self.number:06d}-{self.key}.parquet"


@dataclass(frozen=True)
class Part:
    """What came of a block."""

    num_images: int
    num_words: int
    skipped: tuple[Skipped, ...]


def blocks_of(sources: Sequence[Source], size: int, job: Mapping[str, Any]) -> list[Block]:
    """The images cut into blocks.

    Args:
        job: what reads them, as JSON can say it.
    """
    blocks: list[Block] = []
    for start in range(0, len(sources), size):
        some = tuple(sources[start : start + size])
        told = json.dumps([dict(job), [source.state() for source in some]], sort_keys=True)
        key = hashlib.blake2b(told.encode(), digest_size=8).hexdigest()
        blocks.append(Block(len(blocks), some, key))
    return blocks


def part_bytes(key: str, num_images: int, rows: Sequence[Row], skipped: Sequence[Skipped], with_boxes: bool) -> bytes:
    """A part as a Parquet file; what was skipped is in its metadata."""
    notes = {
        _KEY: key,
        _NUM_IMAGES: str(num_images),
        _SKIPPED: json.dumps([asdict(image) for image in skipped]),
    }
    file = io.BytesIO()
    pq.write_table(as_table(rows, with_boxes, notes), file)
    return file.getvalue()


class PartsFolder:
    """A folder of parts.

    Args:
        job: as for ``blocks_of``.

    Raises: ValueError if it holds something else, or the parts of another job.
    """

    def __init__(self, folder: Path, job: Mapping[str, Any]) -> None:
        self._folder, self._job = folder, dict(job)
        held = self._held_job()
        others = [name for name in self._job if held is not None and held.get(name) != self._job[name]]
        if others:
            raise ValueError(
                f"{folder} holds words that were read with another {', '.join(others)}; give another --output, or "
                "remove that folder"
            )

    def _held_job(self) -> dict[str, Any] | None:
        """What the parts there were read by; None if there are none yet. Raises: ValueError for something else."""
        try:
            return dict(json.loads((self._folder / MANIFEST).read_text(encoding="utf-8"))["job"])
        except FileNotFoundError:
            if not self._folder.is_dir() or all(path.name.startswith((LOCK, ".")) for path in self._folder.iterdir()):
                return None
        except (KeyError, TypeError, ValueError):
            pass
        raise ValueError(f"{self._folder} holds something else; give --output a folder that is empty or not there yet")

    @contextmanager
    def held(self) -> Iterator[None]:
        """Makes the folder and keeps others out. Raises: ValueError if another process writes it."""
        self._folder.mkdir(parents=True, exist_ok=True)
        try:
            with locked(self._folder / LOCK, seconds=0):
                if not (self._folder / MANIFEST).exists():
                    self._write_manifest({"state": "unfinished"})
                yield
        except HeldByAnother:
            raise ValueError(
                f"another process is writing {self._folder}; wait for it, or give another --output"
            ) from None

    def find(self, block: Block) -> Part | None:
        """What came of a block earlier; None if it has to be read."""
        try:
            notes = pq.read_metadata(self._folder / block.file)
            metadata = {key.decode(): value.decode() for key, value in (notes.metadata or {}).items()}
            if metadata.get(_KEY) != block.key:
                return None
            skipped = tuple(Skipped(**image) for image in json.loads(metadata[_SKIPPED]))
            return Part(int(metadata[_NUM_IMAGES]), notes.num_rows, skipped)
        except (OSError, pa.ArrowException, KeyError, ValueError):
            return None

    def add(self, block: Block, part: bytes) -> None:
        """Raises: OSError if it cannot be written."""
        with whole_file(self._folder / block.file) as writing:
            writing.write_bytes(part)

    def finish(self, blocks: Sequence[Block]) -> list[Skipped]:
        """Writes the manifest, removes parts of images that have changed since, and says what was skipped.

        Raises: ValueError if a block has no part.
        """
        parts: list[tuple[Block, Part]] = []
        for block in blocks:
            part = self.find(block)
            if part is None:
                raise ValueError(
                    f"{self._folder / block.file} is gone or damaged; the same command reads its images again"
                )
            parts.append((block, part))
        skipped = [image for _, part in parts for image in part.skipped]
        self._write_manifest(
            {
                "state": "finished",
                "num_images": sum(part.num_images for _, part in parts),
                "num_words": sum(part.num_words for _, part in parts),
                "skipped": [asdict(image) for image in skipped],
                "parts": [
                    {
                        "file": block.file,
                        "num_images": part.num_images,
                        "num_words": part.num_words,
                        "first": block.sources[0].name,
                        "last": block.sources[-1].name,
                    }
                    for block, part in parts
                ],
            }
        )
        wanted = {block.file for block in blocks}
        for path in self._folder.glob("part-*.parquet"):
            if path.name not in wanted:
                with suppress(FileNotFoundError):
                    path.unlink()
        return skipped

    def _write_manifest(self, state: Mapping[str, Any]) -> None:
        text = json.dumps({"job": self._job, **state}, indent=1, ensure_ascii=False)
        write_text(self._folder / MANIFEST, text)
