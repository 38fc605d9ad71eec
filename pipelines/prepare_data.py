"""Look after data sets.  python pipelines/prepare_data.py verify|convert|pack|render …"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated

import tyro

from kdltr_core.config import DataConfig, DegradationName, TextKind
from kdltr_core.data.convert import convert
from kdltr_core.data.pack import build_pack
from kdltr_core.data.roots import lmdb_folders
from kdltr_core.data.synth.render import render_words
from kdltr_core.data.verify import to_markdown, verify
from pipelines.run.command_line import answer_mistakes
from pipelines.run.progress import progress_bar

DEFAULTS = DataConfig()


Roots = Annotated[tuple[Path, ...], tyro.conf.Positional, tyro.conf.arg(metavar="ROOT [ROOT …]")]


def verify_sets(roots: Roots) -> int:
    """Decode every record of LMDBs and compare their counts with the literature's; exit code 1 if one is not whole.

    Args:
        roots: LMDB folders, or folders of LMDB folders.
    """
    folders = [folder for root in roots for folder in lmdb_folders(root)]
    rows = [verify(folder, progress_bar(f"reading {folder.name}")) for folder in folders]
    print(to_markdown(rows))
    return 1 if any(row.problems for row in rows) else 0


def convert_images(
    folder: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="FOLDER")],
    labels: Path | None = None,
    output: Path | None = None,
) -> int:
    """Make an LMDB of a folder of images and a tab-separated label file; nothing is overwritten.

    Args:
        folder: Folder that the paths in the label file count from.
        labels: Lines 'path<TAB>label', or 'high-res path<TAB>low-res path<TAB>label'; by default labels.tsv in the
            folder.
        output: The LMDB to make; by default beside the folder, with '_lmdb' behind its name.
    """
    folder = folder.expanduser().resolve()
    output = output or folder.with_name(f"{folder.name}_lmdb")
    store = convert(folder, labels or folder / "labels.tsv", output, progress=progress_bar("writing"))
    print(f"{output}: {len(store)} {store.kind} samples")
    return 0


def pack_sets(
    roots: Roots, degradation: DegradationName = "none", cache_folder: Path = Path(DEFAULTS.cache_folder)
) -> int:
    """Decode and resize LMDBs once, into the cache that training and evaluation read.

    Args:
        roots: LMDB folders, or folders of LMDB folders.
        degradation: Of low_res of single sets: none for train, published for benchmarks.
        cache_folder: Where packs are kept.
    """
    for folder in [folder for root in roots for folder in lmdb_folders(root)]:
        pack = build_pack(
            folder,
            cache_folder=cache_folder,
            degradation=degradation,
            progress=progress_bar(f"packing {folder.name}"),
        )
        print(f"{pack.path}: {len(pack)} {pack.kind} pairs, {pack.report.describe()}")
    return 0


def render_set(
    root: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="ROOT")],
    num_words: Annotated[int, tyro.conf.arg(aliases=["-n"])] = DEFAULTS.num_rendered_train,
    seed: int = 1000,
    text_shares: dict[TextKind, float] = DEFAULTS.text_shares,
) -> int:
    """Draw texts with the fonts of this machine into an LMDB.

    Args:
        root: The LMDB to make.
        num_words: How many.
        seed: Another seed draws other pictures; training without roots draws its own with seeds 0 and 1.
        text_shares: How much of each kind of text, as parts of their sum.
    """
    render_words(root, num_words, seed, shares=text_shares, progress=progress_bar("rendering"))
    print(f"{root}: {num_words} words")
    return 0


def main(arguments: Sequence[str] | None = None) -> int:
    commands: dict[str, Callable[..., int]] = {
        "verify": verify_sets,
        "convert": convert_images,
        "pack": pack_sets,
        "render": render_set,
    }
    return tyro.extras.subcommand_cli_from_dict(commands, args=arguments, description=__doc__)


if __name__ == "__main__":
    sys.exit(answer_mistakes(main))
