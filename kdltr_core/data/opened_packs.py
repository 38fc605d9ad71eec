"""The packs of a run: opened by the process that starts it, described, and found again by its workers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from kdltr_core.config import DataConfig
from kdltr_core.data.pack import Pack, UnusablePack
from kdltr_core.data.readings import Readings, WordReader, read_once
from kdltr_core.data.roots import (
    folders_of,
    open_benchmarks,
    pack_of,
    rendered_folder,
    unlabelled_folders,
)
from kdltr_core.files import Progress


@dataclass(frozen=True)
class PackFile:
    """A pack as another process finds it: its name in the cache folder, and what must be in it.

    ``readings`` is the name of the file beside it with what the teacher reads, where that stands for labels.
    """

    file: str
    fingerprint: str
    readings: str = ""


@dataclass(frozen=True)
class DatasetsDescription:
    """Where the packs of ``Datasets`` are, small enough to be handed to every worker; hashable.

    Attributes:
        decides: the fields of the config that the packs follow from.
        train, unlabelled, beside: the packs by the roots they are of: of words with labels, without, and rendered
            beside the roots.
        benchmarks: the packs by the names of their sets.
    """

    decides: str
    train: tuple[tuple[str, PackFile], ...]
    unlabelled: tuple[tuple[str, PackFile], ...]
    beside: tuple[tuple[str, PackFile], ...]
    benchmarks: tuple[tuple[str, PackFile], ...]


@dataclass(frozen=True)
class OpenedPacks:
    """As in ``DatasetsDescription``, opened; ``readings`` of those without labels, by their roots."""

    train: dict[str, Pack]
    unlabelled: dict[str, Pack]
    beside: dict[str, Pack]
    benchmarks: dict[str, Pack]
    readings: dict[str, Readings]

    def describe(self, config: DataConfig) -> DatasetsDescription:
        train, unlabelled, beside, benchmarks = (
            tuple((root, self._file(root, pack)) for root, pack in packs.items())
            for packs in (self.train, self.unlabelled, self.beside, self.benchmarks)
        )
        return DatasetsDescription(_decides(config), train, unlabelled, beside, benchmarks)

    def _file(self, root: str, pack: Pack) -> PackFile:
        readings = self.readings[root].path.name if root in self.readings else ""
        return PackFile(pack.path.name, pack.fingerprint, readings)


def open_packs(config: DataConfig, progress: Progress | None, reader: WordReader | None) -> OpenedPacks:
    def packed(roots: Sequence[Path], labelled: bool = True) -> dict[str, Pack]:
        return {str(root): pack_of(config, root, "none", progress, labelled) for root in roots}

    if config.unlabelled_roots and reader is None:
        raise ValueError(
            f"what the teacher reads in {', '.join(config.unlabelled_roots)} is not in {config.cache_folder} here; "
            "where a run has several machines, put data.cache_folder on a mount that they share"
        )
    train, unlabelled, beside = [], packed(unlabelled_folders(config, progress), labelled=False), []
    if config.train_roots or not unlabelled:
        train = folders_of(config, "train_roots", progress)
    if config.num_rendered_beside_roots and (config.train_roots or unlabelled):
        beside = [rendered_folder(config, "train", config.num_rendered_beside_roots, progress)]
    if both := [str(root) for root in train if str(root) in unlabelled]:
        raise ValueError(f"{both[0]} is given in data.train_roots and in data.unlabelled_roots; name it in one of them")
    readings = {root: read_once(pack, reader) for root, pack in unlabelled.items() if reader}
    return OpenedPacks(packed(train), unlabelled, packed(beside), open_benchmarks(config, progress), readings)


def reopen_packs(description: DatasetsDescription, config: DataConfig) -> OpenedPacks | None:
    """None where a pack, or what was read in it, is not there or not what it was."""
    if description.decides != _decides(config):
        return None
    folder, readings = Path(config.cache_folder).expanduser(), {}

    def opened(files: tuple[tuple[str, PackFile], ...]) -> dict[str, Pack]:
        packs = {root: Pack(folder / file.file) for root, file in files}
        for root, file in files:
            if packs[root].fingerprint != file.fingerprint:
                raise UnusablePack(f"{file.file} is another set's")
            if file.readings:
                readings[root] = Readings.open(folder / file.readings, len(packs[root]))
        return packs

    try:
        train, unlabelled, beside, benchmarks = map(
            opened, (description.train, description.unlabelled, description.beside, description.benchmarks)
        )
    except (FileNotFoundError, UnusablePack):
        return None
    known = {root: found for root, found in readings.items() if found is not None}
    return OpenedPacks(train, unlabelled, beside, benchmarks, known) if len(known) == len(readings) else None


def refuse_other_words(description: DatasetsDescription, config: DataConfig, packs: OpenedPacks) -> None:
    """Of the sets that roots name; rendered words may be drawn with other fonts on another machine."""
    if description.decides != _decides(config):
        return
    pairs = list(zip(description.train, packs.train.items(), strict=False)) if config.train_roots else []
    if config.benchmark_roots:
        pairs += zip(description.benchmarks, packs.benchmarks.items(), strict=False)
    for (_, file), (root, pack) in pairs:
        if file.fingerprint != pack.fingerprint:
            raise ValueError(
                f"{root} holds other words than when this run opened it; put the first ones back to resume, or give "
                "another --name to begin a run on these"
            )


def _decides(config: DataConfig) -> str:
    after = {"cache_folder", "train_degradation", "validation_fraction", "max_rejected_fraction"}
    after |= {"teacher_cache", "unlabelled_min_confidence", "unlabelled_weight", "unlabelled_overlap"}
    return config.model_dump_json(exclude=after)
