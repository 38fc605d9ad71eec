"""Look after data sets.  python pipelines/prepare_data.py verify|convert|pack|render …"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import tyro

from kdltr_core.config import DataConfig, DegradationName, TextKind
from kdltr_core.data.convert import convert
from kdltr_core.data.lmdb_store import Kind
from kdltr_core.data.pack import build_pack
from kdltr_core.data.roots import lmdb_folders
from kdltr_core.data.synth.render import render_pairs
from kdltr_core.data.verify import to_markdown, verify
from pipelines.run.command_line import answer_mistakes
from pipelines.run.progress import progress_bar

DEFAULTS = DataConfig()


@dataclass(frozen=True)
class VerifyOptions:
    """Decode every record of LMDBs and compare their counts with the literature's; exit code 1 if one is not whole."""

    roots: Annotated[tuple[Path, ...], tyro.conf.Positional, tyro.conf.arg(metavar="ROOT [ROOT …]")]
    """LMDB folders, or folders of LMDB folders."""

    def __call__(self) -> int:
        roots = [folder for root in self.roots for folder in lmdb_folders(root)]
        rows = [verify(root, progress_bar(f"reading {root.name}")) for root in roots]
        print(to_markdown(rows))
        return 1 if any(row.problems for row in rows) else 0


@dataclass(frozen=True)
class ConvertOptions:
    """Make an LMDB of a folder of images and a tab-separated label file; nothing is overwritten."""

    folder: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="FOLDER")]
    """Folder that the paths in the label file count from."""
    labels: Path | None = None
    """Lines 'path<TAB>label', or 'high-res path<TAB>low-res path<TAB>label'; by default labels.tsv in the folder."""
    output: Path | None = None
    """The LMDB to make; by default beside the folder, with '_lmdb' behind its name."""

    def __call__(self) -> int:
        folder = self.folder.expanduser().resolve()
        output = self.output or folder.with_name(f"{folder.name}_lmdb")
        store = convert(folder, self.labels or folder / "labels.tsv", output, progress=progress_bar("writing"))
        print(f"{output}: {len(store)} {store.kind} samples")
        return 0


@dataclass(frozen=True)
class PackOptions:
    """Decode and resize LMDBs once, into the cache that training and evaluation read."""

    roots: Annotated[tuple[Path, ...], tyro.conf.Positional, tyro.conf.arg(metavar="ROOT [ROOT …]")]
    """LMDB folders, or folders of LMDB folders."""
    degradation: DegradationName = "none"
    """Of low_res of single sets: none for train, published for benchmarks."""
    cache_folder: Path = Path(DEFAULTS.cache_folder)
    """Where packs are kept."""

    def __call__(self) -> int:
        for folder in [folder for root in self.roots for folder in lmdb_folders(root)]:
            pack = build_pack(
                folder,
                cache_folder=self.cache_folder,
                degradation=self.degradation,
                max_rejected_fraction=DEFAULTS.max_rejected_fraction,
                progress=progress_bar(f"packing {folder.name}"),
            )
            print(f"{pack.path}: {len(pack)} {pack.kind} pairs, {pack.report.describe()}")
        return 0


@dataclass(frozen=True)
class RenderOptions:
    """Draw texts with the fonts of this machine into an LMDB."""

    root: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="ROOT")]
    """The LMDB to make."""
    num_pairs: Annotated[int, tyro.conf.arg(aliases=["-n"])] = DEFAULTS.num_rendered_train
    """How many."""
    seed: int = 1000
    """Another seed draws other pictures; training without roots draws its own with seeds 0 and 1."""
    layout: Kind = "paired"
    """paired: TextZoom's, with a low_res as an interlaced camera sees it; single: the pictures as drawn."""
    text_shares: dict[TextKind, float] = field(default_factory=lambda: DEFAULTS.text_shares)
    """How much of each kind of text, as parts of their sum."""

    def __call__(self) -> int:
        bar = progress_bar("rendering")
        render_pairs(self.root, self.num_pairs, self.seed, layout=self.layout, shares=self.text_shares, progress=bar)
        print(f"{self.root}: {self.num_pairs} {self.layout} samples")
        return 0


Command = (
    Annotated[VerifyOptions, tyro.conf.subcommand("verify")]
    | Annotated[ConvertOptions, tyro.conf.subcommand("convert")]
    | Annotated[PackOptions, tyro.conf.subcommand("pack")]
    | Annotated[RenderOptions, tyro.conf.subcommand("render")]
)


def main(arguments: Sequence[str] | None = None) -> int:
    return tyro.cli(Command, args=arguments, description=__doc__)()


if __name__ == "__main__":
    sys.exit(answer_mistakes(main))
