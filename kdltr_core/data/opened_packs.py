"""The packs of a run: opened by the process that starts it, described, and found again by its workers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from kdltr_core.config import DataConfig
from kdltr_core.data.pack import Pack, UnusablePack, build_pack
from kdltr_core.data.readings import Readings, WordReader, read_once
from kdltr_core.data.roots import folders_of, open_benchmarks, rendered_folder
from kdltr_core.files import Progress

Role = Literal["train", "unlabelled", "beside", "benchmark"]


@dataclass(frozen=True)
class OpenedPack:
    """A pack of a run.

    Attributes:
        role: its words have labels, have none, are rendered beside the roots, or are a benchmark.
        name: the root it is of, or the name of the benchmark.
        readings: what the teacher reads in it, where that stands for labels.
    """

    role: Role
    name: str
    pack: Pack
    readings: Readings | None = None


@dataclass(frozen=True)
class PackFile:
    """An ``OpenedPack`` as another process finds it: names in the cache folder, '' for no readings."""

    role: Role
    name: str
    file: str
    fingerprint: str
    readings: str


@dataclass(frozen=True)
class DatasetsDescription:
    """Where the packs of ``Datasets`` are, small enough to be handed to every worker.

    Attributes:
        decides: the fields of the config that the packs follow from.
        packs: those trained on, then benchmarks.
    """

    decides: str
    packs: tuple[PackFile, ...]


def describe_packs(config: DataConfig, packs: Sequence[OpenedPack]) -> DatasetsDescription:
    after = {"cache_folder", "train_degradation", "validation_fraction", "max_rejected_fraction"}
    after |= {"teacher_cache", "unlabelled_min_confidence", "unlabelled_weight", "unlabelled_overlap"}
    files = (
        PackFile(p.role, p.name, p.pack.path.name, p.pack.fingerprint, p.readings.path.name if p.readings else "")
        for p in packs
    )
    return DatasetsDescription(config.model_dump_json(exclude=after), tuple(files))


def open_packs(
    config: DataConfig,
    progress: Progress | None = None,
    reader: WordReader | None = None,
    description: DatasetsDescription | None = None,
) -> list[OpenedPack]:
    """Those trained on, with labels, without, and rendered beside the roots, then benchmarks; as ``load_datasets``."""
    if description and (known := _reopened(description, config)):
        return known
    if config.unlabelled_roots and reader is None:
        raise ValueError(
            f"what the teacher reads in {', '.join(config.unlabelled_roots)} is not in {config.cache_folder} here; "
            "where a run has several machines, put data.cache_folder on a mount that they share"
        )
    roots: dict[Role, list[Path]] = {"train": [], "unlabelled": folders_of(config, "unlabelled_roots", progress)}
    if config.train_roots or not roots["unlabelled"]:
        roots["train"] = folders_of(config, "train_roots", progress)
    if both := [str(root) for root in roots["train"] if root in roots["unlabelled"]]:
        raise ValueError(f"{both[0]} is given in data.train_roots and in data.unlabelled_roots; name it in one of them")
    if config.num_rendered_beside_roots and (config.train_roots or roots["unlabelled"]):
        roots["beside"] = [rendered_folder(config, "train", config.num_rendered_beside_roots, progress)]
    packs = []
    for role, folders in roots.items():
        for root in folders:
            pack = build_pack(root, config.cache_folder, labelled=role != "unlabelled", progress=progress)
            readings = read_once(pack, reader) if reader and role == "unlabelled" else None
            packs.append(OpenedPack(role, str(root), pack, readings))
    packs += [OpenedPack("benchmark", name, pack) for name, pack in open_benchmarks(config, progress).items()]
    if description:
        _refuse_other_words(description, config, packs)
    return packs


def _reopened(description: DatasetsDescription, config: DataConfig) -> list[OpenedPack] | None:
    """None where a pack, or what was read in it, is not there or not what it was, and for another config's."""
    folder, packs = Path(config.cache_folder).expanduser(), []
    try:
        for known in description.packs:
            pack = Pack(folder / known.file)
            readings = Readings.open(folder / known.readings, len(pack)) if known.readings else None
            packs.append(OpenedPack(known.role, known.name, pack, readings))
    except UnusablePack:
        return None
    return packs if describe_packs(config, packs) == description else None


def _refuse_other_words(description: DatasetsDescription, config: DataConfig, packs: Sequence[OpenedPack]) -> None:
    """Of the sets that roots name; rendered words may be drawn with other fonts on another machine."""
    now, named = describe_packs(config, packs), {"train": config.train_roots, "benchmark": config.benchmark_roots}
    for known, found in zip(description.packs, now.packs, strict=False):
        if now.decides == description.decides and named.get(found.role) and found.fingerprint != known.fingerprint:
            raise ValueError(
                f"{found.name} holds other words than when this run opened it; put the first ones back to resume, or "
                "give another --name to begin a run on these"
            )
