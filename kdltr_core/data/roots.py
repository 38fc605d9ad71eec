"""The roots that a config names, and the packs of the words under them; rendered words where it names none."""

from __future__ import annotations

import zlib
from multiprocessing import current_process
from pathlib import Path
from typing import Literal, get_args

from kdltr_core.config import DataConfig
from kdltr_core.data.lmdb_store import LmdbStore
from kdltr_core.data.pack import Pack, build_pack
from kdltr_core.data.synth.render import render_words
from kdltr_core.files import Progress, locked
from kdltr_core.remote import LMDB_FILE, fetch

RenderedSet = Literal["train", "benchmark", "selection", "matrix"]

# Raise it when render_words draws other pictures from the same seed, so that cached ones are drawn anew.
RENDERING_VERSION = 3


def open_benchmarks(config: DataConfig, progress: Progress | None = None) -> dict[str, Pack]:
    """The benchmark sets by name; rendered words where the config names none.

    Raises: ValueError for a root that cannot be used or too much of which would be rejected, or two sets of one name;
        as ``fetch``.
    """
    packs = {}
    for name, root in benchmark_folders(config, progress).items():
        packs[name] = build_pack(root, config.cache_folder, config.benchmark_degradation, progress=progress)
        packs[name].report.check(str(root), config.max_rejected_fraction)
    return packs


def benchmark_folders(config: DataConfig, progress: Progress | None = None) -> dict[str, Path]:
    """The LMDB of each benchmark set, by the name that ``open_benchmarks`` gives the set. Raises: as that does."""
    folders: dict[str, Path] = {}
    for root in folders_of(config, "benchmark_roots", progress):
        name = root.resolve().name
        name = name if name not in folders else f"{root.resolve().parent.name}-{name}"
        if name in folders:
            raise ValueError(f"two benchmarks are called {name!r}; rename the folder of one: {root}")
        folders[name] = root
    return folders


def lmdb_folders(root: str | Path) -> list[Path]:
    """The LMDB folders that a root stands for: itself, or those under it, by name.

    Raises: ValueError if there is none.
    """
    root = Path(root).expanduser()
    if (root / LMDB_FILE).is_file():
        return [root]
    found = sorted(file.parent for file in root.rglob(LMDB_FILE))
    return found or [LmdbStore.open(root).root]  # which says what is wrong


def folders_of(
    config: DataConfig,
    field: Literal["train_roots", "unlabelled_roots", "benchmark_roots"],
    progress: Progress | None = None,
) -> list[Path]:
    """The LMDBs under the roots of a field. Where it names none, that of rendered words.

    A root of unlabelled pictures without an LMDB stands for itself, and no such root for nothing.
    """
    folders: list[Path] = []
    labelled = field != "unlabelled_roots"
    for root in getattr(config, field):
        place = fetch(root, config.cache_folder, progress, only=LMDB_FILE if labelled else "*")
        for folder in lmdb_folders(place) if labelled or any(place.rglob(LMDB_FILE)) else [place]:
            if any(folder.samefile(other) for other in folders):
                raise ValueError(f"{folder} is given twice in data.{field}; name it once")
            folders.append(folder)
    if folders or not labelled:
        return folders
    if field == "train_roots":
        return [rendered_folder(config, "train", config.num_rendered_train, progress)]
    return [rendered_folder(config, "benchmark", config.num_rendered_benchmark, progress)]


def rendered_folder(config: DataConfig, name: RenderedSet, num_pairs: int, progress: Progress | None) -> Path:
    """The LMDB of rendered texts in the config's shares, made by the first process that asks.

    Sets of other names have other pictures.
    """
    seed = get_args(RenderedSet).index(name)
    shares = repr(sorted(config.text_shares.items()))
    drawn = f"rendered-v{RENDERING_VERSION}-{num_pairs}-texts-seed-{seed}-{zlib.crc32(shares.encode()):08x}"
    folder = Path(config.cache_folder).expanduser() / drawn
    root = folder / f"rendered_{name}"
    if getattr(current_process(), "_inheriting", False):
        raise RuntimeError(
            "words are asked for while a process that draws them imports the main script; put what that script does "
            "under: if __name__ == '__main__'"
        )
    folder.mkdir(parents=True, exist_ok=True)
    with locked(folder / f"{name}.lock"):
        if not (root / LMDB_FILE).is_file():
            render_words(root, num_pairs, seed, shares=config.text_shares, progress=progress)
    return root
