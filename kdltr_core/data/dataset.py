"""All the words of a run: training and validation pairs, and the benchmarks."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from multiprocessing import current_process
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from kdltr_core.charset import Charset
from kdltr_core.config import DataConfig, DegradationName
from kdltr_core.data.degrade import make_low_res
from kdltr_core.data.lmdb_store import LmdbStore
from kdltr_core.data.pack import Pack, UnusablePack, build_pack
from kdltr_core.data.rejected import RejectionReport, RejectReason
from kdltr_core.data.synth.render import render_pairs
from kdltr_core.files import locked
from kdltr_core.remote import LMDB_FILE, fetch

Progress = Callable[[int, int], None]

# Raise it when render_pairs draws other pictures from the same seed, so that cached ones are drawn anew.
RENDERING_VERSION = 2


class TrainingPairs:
    """Rows of several packs, seen as one set.

    Where a pack is of a single set, low_res is degraded when it is gathered.

    Args:
        packs: the sets, one behind the other.
        rows: (N,) which rows of the joined packs belong to this set.
        degradation: of low_res of single sets.
        name: for reports.
    """

    def __init__(self, packs: Sequence[Pack], rows: np.ndarray, degradation: DegradationName, name: str) -> None:
        self.name = name
        self.packs = tuple(packs)
        self.degradation: DegradationName = degradation
        self._rows = rows
        self._starts = np.concatenate([[0], np.cumsum([len(pack) for pack in packs])])
        self._pack_of = np.searchsorted(self._starts, rows, side="right") - 1
        self.image_hashes: np.ndarray = np.concatenate([pack.image_hashes for pack in packs])[rows]
        labels = [label for pack in packs for label in pack.labels]
        self.labels: list[str] = [labels[row] for row in rows]

    def __len__(self) -> int:
        return len(self._rows)

    def gather(self, indices: np.ndarray, seeds: np.ndarray | None = None) -> tuple[Tensor, Tensor]:
        """Copies of the pairs at ``indices`` (N,), in that order.

        Args:
            indices: in [0, len).
            seeds: (N,) not negative, of each pair's degradation; by default the hash of its image, so that the set is
                the same whenever it is read.

        Returns: high_res (N, 3, 32, 128) uint8 and low_res (N, 3, 16, 64) uint8.
        """
        high_res, low_res = self._gather(indices)
        if self.degradation != "none":
            shown, pixels = high_res.numpy(), low_res.numpy()
            seeds = self.image_hashes[indices] if seeds is None else seeds
            for place, pack in enumerate(self._pack_of[indices]):
                if self.packs[pack].kind == "single":
                    high, low = (side[place].transpose(1, 2, 0) for side in (shown, pixels))
                    degraded = make_low_res(high, low, int(seeds[place]), self.degradation)
                    pixels[place] = degraded.transpose(2, 0, 1)
        return high_res, low_res

    def _gather(self, indices: np.ndarray) -> tuple[Tensor, Tensor]:
        rows, owners = self._rows[indices], self._pack_of[indices]
        high_res = low_res = torch.empty(0)
        for pack in np.unique(owners):
            here = owners == pack
            high, low = self.packs[pack].gather(rows[here] - self._starts[pack])
            if here.all():
                return high, low
            if not len(high_res):
                high_res = torch.empty((len(rows), *high.shape[1:]), dtype=torch.uint8)
                low_res = torch.empty((len(rows), *low.shape[1:]), dtype=torch.uint8)
            places = torch.from_numpy(np.flatnonzero(here))
            high_res[places], low_res[places] = high, low
        return high_res, low_res


@dataclass(frozen=True)
class PackFile:
    """A pack as another process finds it: its name in the cache folder, and what must be in it."""

    file: str
    fingerprint: str
    num_pairs: int


@dataclass(frozen=True)
class DatasetsDescription:
    """Where the packs of ``Datasets`` are, small enough to be handed to every worker; hashable.

    Attributes:
        decides: the fields of the config that the packs follow from.
        train: the packs by the roots they are of.
        num_beside: how many of them, the last, are of words rendered beside the roots.
        benchmarks: the packs by the names of their sets.
    """

    decides: str
    train: tuple[tuple[str, PackFile], ...]
    num_beside: int
    benchmarks: tuple[tuple[str, PackFile], ...]


@dataclass(frozen=True)
class Datasets:
    """What a run learns from, is chosen by, and is read on.

    Attributes:
        train: training pairs; their low_res is degraded anew by the seeds that ``gather`` is given.
        validation: held-out pairs with a fixed low_res.
        benchmarks: packs by the name of their set.
        rejected: what could not be used of each set, by the root of a training set or the name of a benchmark.
        description: for ``load_datasets`` in another process.
    """

    train: TrainingPairs
    validation: TrainingPairs
    benchmarks: Mapping[str, Pack]
    rejected: Mapping[str, RejectionReport]
    description: DatasetsDescription

    @property
    def fingerprints(self) -> dict[str, str]:
        """Of every set, as hex by "train/NAME" or "benchmark/NAME": other words have another, copies the same."""
        found: dict[str, str] = {}
        for pack in self.train.packs:
            count = sum(other.name == pack.name for other in self.train.packs[: len(found)])
            found[f"train/{pack.name}" + (f"-{count + 1}" if count else "")] = pack.fingerprint
        return found | {f"benchmark/{name}": pack.fingerprint for name, pack in self.benchmarks.items()}


def load_datasets(
    config: DataConfig,
    charset: Charset,
    progress: Progress | None = None,
    description: DatasetsDescription | None = None,
) -> Datasets:
    """Pack what is not packed yet, and split train from validation.

    The split follows the hash of the image, so it is the same for every run and for every order of the roots, and
    copies of one image stay on one side. The validation split is degraded as the benchmarks are, since it stands in
    for them. Samples whose label the alphabet cannot write are left out of both; benchmarks keep them.

    Args:
        config: roots (those that a URI names are fetched), fractions, limits; without train or benchmark roots words
            are rendered in their place. Words rendered beside train roots are all trained on: the validation split
            is of the roots alone.
        charset: the recognizer's alphabet.
        progress: called with (done, total) for each root that is fetched, in bytes, and each set that is packed or
            rendered, in words.
        description: of another process's datasets. Where its packs are in the cache folder they are opened, and no
            root is looked at; elsewhere, or where another config made it, this is as without it.

    Raises: ValueError for a root that cannot be used, if too much would be rejected, or for roots that hold other words
        than those that were described; as ``fetch``.
    """
    opened = _reopen(description, config) if description else None
    train, num_beside, benchmarks = opened or _open(config, progress)
    if description and opened is None:
        _refuse_other_words(description, config, train, benchmarks)
    rejected: dict[str, RejectionReport] = {}
    kept, offset = [], 0
    for root, pack in train.items():
        report = copy.deepcopy(pack.report)
        kept.append(_writable_rows(pack, charset, config.max_label_length, report) + offset)
        report.check(root, config.max_rejected_fraction)
        rejected[root] = report
        offset += len(pack)
    rejected |= {name: pack.report for name, pack in benchmarks.items()}
    packs, rows = list(train.values()), np.concatenate(kept)
    num_rows_beside = sum(len(of_pack) for of_pack in kept[len(kept) - num_beside :])
    hashes = np.concatenate([pack.image_hashes for pack in packs])[rows[: len(rows) - num_rows_beside]]
    held_out = held_out_rows(hashes, config.validation_fraction)
    if held_out.all():
        raise ValueError(
            f"the {len(hashes)} usable training pairs are copies of too few images to hold some out for validation; "
            "give more with data.train_roots"
        )
    held_out = np.concatenate([held_out, np.zeros(num_rows_beside, bool)])
    return Datasets(
        train=TrainingPairs(packs, rows[~held_out], config.train_degradation, "train"),
        validation=TrainingPairs(packs, rows[held_out], config.benchmark_degradation, "validation"),
        benchmarks=benchmarks,
        rejected=rejected,
        description=DatasetsDescription(_decides(config), _files(train), num_beside, _files(benchmarks)),
    )


def _writable_rows(pack: Pack, charset: Charset, max_label_length: int, report: RejectionReport) -> np.ndarray:
    """Rows whose label the alphabet can write; the report is told of the others, and of characters left out."""
    rejected = []
    for row, label in enumerate(pack.labels):
        written = charset.normalise(label)
        if label.isascii() and len(written) == len(label):
            continue
        reason: RejectReason | None = None
        if not written:
            reason = "no encodable character"
        elif charset.loses_too_much(label):
            reason = "label mostly outside the alphabet"
        elif len(written) > max_label_length:
            reason = "over-long label"  # in basic letters it may be longer
        if reason:
            report.add(reason, pack.keys[row])
            rejected.append(row)
        else:
            report.add_lost(charset.outside(label), label)
    return np.delete(np.arange(len(pack)), rejected)


def _open(config: DataConfig, progress: Progress | None) -> tuple[dict[str, Pack], int, dict[str, Pack]]:
    """The training packs by their roots, how many of them are rendered beside the roots, and the benchmarks' packs."""
    roots = _folders(config, "train_roots", progress)
    beside = []
    if config.train_roots and config.num_rendered_beside_roots:
        beside = [_rendered(config, "train", config.num_rendered_beside_roots, progress)]
    train = {str(root): _build(config, root, "none", progress) for root in [*roots, *beside]}
    return train, len(beside), open_benchmarks(config, progress)


def _reopen(
    description: DatasetsDescription, config: DataConfig
) -> tuple[dict[str, Pack], int, dict[str, Pack]] | None:
    """None where a pack is not there, or not what it was."""
    if description.decides != _decides(config):
        return None

    def opened(files: tuple[tuple[str, PackFile], ...]) -> dict[str, Pack]:
        folder = Path(config.cache_folder).expanduser()
        packs = {name: Pack.open(folder / file.file) for name, file in files}
        for name, file in files:
            if (packs[name].fingerprint, len(packs[name])) != (file.fingerprint, file.num_pairs):
                raise UnusablePack(packs[name].path, "is another set's")
        return packs

    try:
        return opened(description.train), description.num_beside, opened(description.benchmarks)
    except (FileNotFoundError, UnusablePack):
        return None


def _refuse_other_words(
    description: DatasetsDescription, config: DataConfig, train: Mapping[str, Pack], benchmarks: Mapping[str, Pack]
) -> None:
    """Of the sets that roots name; rendered words may be drawn with other fonts on another machine."""
    if description.decides != _decides(config):
        return
    of_roots = len(train) - description.num_beside if config.train_roots else 0
    pairs = list(zip(description.train[:of_roots], train.items(), strict=False))
    if config.benchmark_roots:
        pairs += zip(description.benchmarks, benchmarks.items(), strict=False)
    for (_, file), (root, pack) in pairs:
        if file.fingerprint != pack.fingerprint:
            raise ValueError(
                f"{root} holds other words than when this run opened it; put the first ones back to resume, or give "
                "another --name to begin a run on these"
            )


def _files(packs: Mapping[str, Pack]) -> tuple[tuple[str, PackFile], ...]:
    return tuple((name, PackFile(pack.path.name, pack.fingerprint, len(pack))) for name, pack in packs.items())


def _decides(config: DataConfig) -> str:
    after = {"cache_folder", "train_degradation", "validation_fraction", "max_rejected_fraction"}
    after |= {"teacher_cache", "placement", "num_loader_threads"}
    return config.model_dump_json(exclude=after)


def open_benchmarks(config: DataConfig, progress: Progress | None = None) -> dict[str, Pack]:
    """The benchmark sets by name; rendered words where the config names none.

    Raises: ValueError for a root that cannot be used, or two sets of one name; as ``fetch``.
    """
    folders = benchmark_folders(config, progress)
    return {name: _build(config, root, config.benchmark_degradation, progress) for name, root in folders.items()}


def benchmark_folders(config: DataConfig, progress: Progress | None = None) -> dict[str, Path]:
    """The LMDB of each benchmark set, by the name that ``open_benchmarks`` gives the set. Raises: as that does."""
    folders: dict[str, Path] = {}
    for root in _folders(config, "benchmark_roots", progress):
        name = root.resolve().name
        name = name if name not in folders else f"{root.resolve().parent.name}-{name}"
        if name in folders:
            raise ValueError(f"two benchmarks are called {name!r}; rename the folder of one: {root}")
        folders[name] = root
    return folders


def held_out_rows(image_hashes: np.ndarray, fraction: float) -> np.ndarray:
    """(N,) bool: which images, uint64 hashes (N,), fall under ``fraction`` of all hashes; at least the lowest does."""
    limit = np.uint64(int(fraction * 2**64))
    return image_hashes <= max(limit, image_hashes.min())


def lmdb_folders(root: str | Path) -> list[Path]:
    """The LMDB folders that a root stands for: itself, or those under it, by name.

    Raises: ValueError if there is none.
    """
    root = Path(root).expanduser()
    if (root / LMDB_FILE).is_file():
        return [root]
    found = sorted(file.parent for file in root.rglob(LMDB_FILE))
    return found or [LmdbStore.open(root).root]  # which says what is wrong


def _folders(
    config: DataConfig, field: Literal["train_roots", "benchmark_roots"], progress: Progress | None
) -> list[Path]:
    """The LMDBs under the roots of a field; where it names none, that of rendered words."""
    folders: list[Path] = []
    for root in getattr(config, field):
        for folder in lmdb_folders(fetch(root, config.cache_folder, progress, only=LMDB_FILE)):
            if any(folder.samefile(other) for other in folders):
                raise ValueError(f"{folder} is given twice in data.{field}; name it once")
            folders.append(folder)
    if not folders and field == "train_roots":
        folders = [_rendered(config, "train", config.num_rendered_train, progress)]
    return folders or [_rendered(config, "benchmark", config.num_rendered_benchmark, progress)]


def _rendered(
    config: DataConfig, name: Literal["train", "benchmark"], num_pairs: int, progress: Progress | None
) -> Path:
    """The LMDB of rendered words, made by the first process that asks; even seeds train, odd ones test."""
    seed = 2 * config.render_seed + (name == "benchmark")
    folder = Path(config.cache_folder).expanduser() / f"rendered-v{RENDERING_VERSION}-{num_pairs}-pairs-seed-{seed}"
    root = folder / f"rendered_{name}"
    if getattr(current_process(), "_inheriting", False):
        raise RuntimeError(
            "words are asked for while a process that draws them imports the main script; put what that script does "
            "under: if __name__ == '__main__'"
        )
    folder.mkdir(parents=True, exist_ok=True)
    with locked(folder / f"{name}.lock"):
        if not (root / LMDB_FILE).is_file():
            render_pairs(root, num_pairs, seed, progress=progress)
    return root


def _build(config: DataConfig, root: Path, degradation: DegradationName, progress: Progress | None) -> Pack:
    return build_pack(
        root,
        cache_folder=config.cache_folder,
        degradation=degradation,
        max_label_length=config.max_label_length,
        max_rejected_fraction=config.max_rejected_fraction,
        progress=progress,
    )
