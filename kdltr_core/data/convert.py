"""Folders of images and a label file → LMDB."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from kdltr_core.data.images import decode_image
from kdltr_core.data.lmdb_store import LmdbStore, write_lmdb
from kdltr_core.data.rejected import RecordError
from kdltr_core.files import Progress

_LINES_SHOWN = 5


def convert(folder: Path, labels: Path, output: Path, *, progress: Progress | None = None) -> LmdbStore:
    """Make an LMDB of the images that a label file names, whole or not at all; nothing is overwritten.

    Each line is ``path<TAB>label`` (a single set), or ``high-res path<TAB>low-res path<TAB>label`` (a paired one);
    paths count from ``folder``. Empty lines are passed over. The images' bytes are copied as they are.

    Args:
        folder: of the images.
        labels: the UTF-8 file of tab-separated lines.
        output: the LMDB's folder, which must not exist yet, or be empty.
        progress: called with (samples done, samples in all) now and then, and at the end.

    Raises: ValueError naming the lines that are malformed, or whose images are missing or corrupt, or if output is
        taken; OSError if output cannot be written.
    """
    try:
        lines = labels.read_text(encoding="utf-8-sig").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(
            f"the label file {labels} cannot be read ({error}); write one in UTF-8 with a line 'path<TAB>label' for "
            "each image (pairs: 'high-res path<TAB>low-res path<TAB>label'), or name it with --labels"
        ) from error
    rows = [(number, line.split("\t")) for number, line in enumerate(lines, start=1) if line.strip()]
    if not rows:
        raise ValueError(f"{labels} has no lines; expected 'path<TAB>label' for each image")
    write_lmdb(output, _samples(folder, labels, rows), len(rows), progress)
    return LmdbStore.open(output)


def _samples(
    folder: Path, labels: Path, rows: Sequence[tuple[int, list[str]]]
) -> Iterator[tuple[tuple[bytes, ...], str]]:
    """Raises: ValueError, at the end, naming the lines that cannot be used."""
    num_columns, problems = len(rows[0][1]), []
    for number, columns in rows:
        if len(columns) != num_columns or num_columns not in (2, 3):
            problems.append(f"line {number}: {len(columns)} tab-separated columns, expected 2 (3 for pairs) in each")
            continue
        *paths, label = map(str.strip, columns)
        try:
            images = tuple((folder / path).read_bytes() for path in paths)
            for path, image in zip(paths, images, strict=True):
                decode_image(image, path)
        except (OSError, RecordError) as error:
            problems.append(f"line {number}: {error}")
        else:
            if not label:
                problems.append(f"line {number}: the label is empty")
            yield images, label
    if problems:
        more = f"; and {len(problems) - _LINES_SHOWN} more" if len(problems) > _LINES_SHOWN else ""
        raise ValueError(f"{labels}: {'; '.join(problems[:_LINES_SHOWN])}{more}. Mend them; nothing was written")
