"""All the words of a run: training and validation pairs, and the benchmarks."""

from __future__ import annotations

import copy
import hashlib
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from multiprocessing import current_process
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import torch
from torch import Tensor

from kdltr_core.charset import Charset
from kdltr_core.config import DataConfig, DegradationName
from kdltr_core.data.degrade import make_low_res
from kdltr_core.data.lmdb_store import LmdbStore
from kdltr_core.data.pack import Pack, UnusablePack, build_pack
from kdltr_core.data.readings import Readings, WordReader, read_once
from kdltr_core.data.rejected import RejectionReport, RejectReason
from kdltr_core.data.synth.render import render_pairs
from kdltr_core.files import locked
from kdltr_core.remote import LMDB_FILE, fetch

Progress = Callable[[int, int], None]
RenderedSet = Literal["train", "benchmark", "selection", "matrix"]

# Raise it when render_pairs draws other pictures from the same seed, so that cached ones are drawn anew.
RENDERING_VERSION = 3


class TrainingPairs:
    """Rows of several packs, seen as one set.

    Where a pack is of a single set, low_res is degraded when it is gathered.

    Args:
        packs: the sets, one behind the other.
        rows: (N,) which rows of the joined packs belong to this set.
        degradation: of low_res of single sets.
        name: for reports.
        labels: of all rows of the joined packs; by default the packs' own.
        weights: (rows of the joined packs,) float32, of each label in cross entropy; None: all 1.
    """

    def __init__(
        self,
        packs: Sequence[Pack],
        rows: np.ndarray,
        degradation: DegradationName,
        name: str,
        *,
        labels: Sequence[str] | None = None,
        weights: np.ndarray | None = None,
    ) -> None:
        self.name = name
        self.packs = tuple(packs)
        self.degradation: DegradationName = degradation
        self._rows = rows
        self._starts = np.concatenate([[0], np.cumsum([len(pack) for pack in packs])])
        self._pack_of = np.searchsorted(self._starts, rows, side="right") - 1
        self.image_hashes: np.ndarray = np.concatenate([pack.image_hashes for pack in packs])[rows]
        labels = labels or [label for pack in packs for label in pack.labels]
        self.labels: list[str] = [labels[row] for row in rows]
        self.weights = None if weights is None else weights[rows]

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
    """A pack as another process finds it: its name in the cache folder, and what must be in it.

    ``readings`` is the name of the file beside it with what the teacher reads, where that stands for labels.
    """

    file: str
    fingerprint: str
    num_pairs: int
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
class _Packs:
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
        return PackFile(pack.path.name, pack.fingerprint, len(pack), readings)


@dataclass(frozen=True)
class Datasets:
    """What a run learns from, is chosen by, and is read on.

    Attributes:
        train: training pairs; their low_res is degraded anew by the seeds that ``gather`` is given.
        validation: held-out pairs with a fixed low_res.
        benchmarks: packs by the name of their set.
        rejected: what could not be used of each set, by the root of a training set or the name of a benchmark.
        num_read: by the roots of pictures without labels, how many are used with the teacher's reading as their label.
        readings: fingerprint of those pictures and readings; '' without any.
        validates_on_readings: whether the held-out pairs' labels are the teacher's readings, as no word has a label.
        description: for ``load_datasets`` in another process.
    """

    train: TrainingPairs
    validation: TrainingPairs
    benchmarks: Mapping[str, Pack]
    rejected: Mapping[str, RejectionReport]
    num_read: Mapping[str, int]
    readings: str
    validates_on_readings: bool
    description: DatasetsDescription

    @property
    def fingerprints(self) -> dict[str, str]:
        """Of every set, as hex by "train/NAME" or "benchmark/NAME": other words have another, copies the same."""
        found: dict[str, str] = {}
        for pack in self.train.packs:
            count = sum(other.name == pack.name for other in self.train.packs[: len(found)])
            found[f"train/{pack.name}" + (f"-{count + 1}" if count else "")] = pack.fingerprint
        if self.readings:
            found["the teacher's readings"] = self.readings
        return found | {f"benchmark/{name}": pack.fingerprint for name, pack in self.benchmarks.items()}


def load_datasets(
    config: DataConfig,
    charset: Charset,
    progress: Progress | None = None,
    description: DatasetsDescription | None = None,
    reader: WordReader | None = None,
) -> Datasets:
    """Pack what is not packed yet, and split train from validation.

    The split follows the hash of the image, so it is the same for every run and for every order of the roots, and
    copies of one image stay on one side. The validation split is degraded as the benchmarks are, since it stands in
    for them. Samples whose label the alphabet cannot write are left out of both; benchmarks keep them.

    Pictures without labels become pairs like others, whose label is what the reader reads in high_res. Nothing is held
    out of them where there are words with labels.

    Args:
        config: roots (those that a URI names are fetched), fractions, limits; without train or benchmark roots words
            are rendered in their place. Words rendered beside train roots are all trained on: the validation split
            is of the roots alone.
        charset: the recognizer's alphabet.
        progress: called with (done, total) for each root that is fetched, in bytes, and each set that is packed or
            rendered, in words.
        description: of another process's datasets. Where its packs are in the cache folder they are opened, and no
            root is looked at; elsewhere, or where another config made it, this is as without it.
        reader: of pictures without labels, where there are such roots; not asked for what is described.

    Raises: ValueError for a root that cannot be used, if too much would be rejected, for roots that hold other words
        than those that were described, or for pictures without labels that a benchmark has too; as ``fetch``.
    """
    packs = _reopen(description, config) if description else None
    if packs is None:
        packs = _open(config, progress, reader)
        if description:
            _refuse_other_words(description, config, packs)
    rejected: dict[str, RejectionReport] = {}
    rows_of: dict[str, np.ndarray] = {}
    for root, pack in {**packs.train, **packs.beside}.items():
        rejected[root] = copy.deepcopy(pack.report)
        rows_of[root] = _writable_rows(pack.keys, pack.labels, charset, config.max_label_length, rejected[root])
        rejected[root].check(root, config.max_rejected_fraction)
    labelled = [pack.image_hashes[rows_of[root]] for root, pack in packs.train.items()]
    for root, pack in packs.unlabelled.items():
        rejected[root] = copy.deepcopy(pack.report)
        others = np.concatenate([*labelled, np.empty(0, np.uint64)])
        rows_of[root] = _trusted_rows(root, packs, config, charset, others, rejected[root])
    rejected |= {name: pack.report for name, pack in packs.benchmarks.items()}

    joined = {**packs.train, **packs.unlabelled, **packs.beside}
    starts = dict(zip(joined, np.cumsum([0, *map(len, joined.values())]), strict=False))
    rows = np.concatenate([rows_of[root] + starts[root] for root in joined])
    may_be_held_out = np.concatenate(
        [np.full(len(rows_of[root]), root in (packs.train or packs.unlabelled)) for root in joined]
    )
    hashes = np.concatenate([pack.image_hashes for pack in joined.values()])[rows]
    held_out = np.zeros(len(rows), bool)
    held_out[may_be_held_out] = held_out_rows(hashes[may_be_held_out], config.validation_fraction)
    if held_out.sum() == may_be_held_out.sum():
        what = "training pairs" if packs.train else "pictures without labels"
        raise ValueError(
            f"the {may_be_held_out.sum()} usable {what} are copies of too few images to hold some out for validation; "
            "give more with data.train_roots"
        )
    texts = {root: readings.texts for root, readings in packs.readings.items()}
    labels = [label for root, pack in joined.items() for label in texts.get(root, pack.labels)]
    weights = None
    if packs.unlabelled and config.unlabelled_weight != 1:
        of_roots = [
            np.full(len(pack), config.unlabelled_weight if root in packs.unlabelled else 1, np.float32)
            for root, pack in joined.items()
        ]
        weights = np.concatenate(of_roots)

    pairs = partial(TrainingPairs, list(joined.values()), labels=labels, weights=weights)
    return Datasets(
        train=pairs(rows[~held_out], config.train_degradation, "train"),
        validation=pairs(rows[held_out], config.benchmark_degradation, "validation"),
        benchmarks=packs.benchmarks,
        rejected=rejected,
        num_read={root: len(rows_of[root]) for root in packs.unlabelled},
        readings=_fingerprint_of_readings(packs, rows_of) if packs.unlabelled else "",
        validates_on_readings=not packs.train,
        description=packs.describe(config),
    )


def _writable_rows(
    keys: Sequence[str], labels: Sequence[str], charset: Charset, max_label_length: int, report: RejectionReport
) -> np.ndarray:
    """Rows whose label the alphabet can write; the report is told of the others, and of characters left out."""
    rejected = []
    for row, label in enumerate(labels):
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
            report.add(reason, keys[row])
            rejected.append(row)
        else:
            report.add_lost(charset.outside(label), label)
    return np.delete(np.arange(len(labels)), rejected)


def _trusted_rows(
    root: str, packs: _Packs, config: DataConfig, charset: Charset, labelled: np.ndarray, report: RejectionReport
) -> np.ndarray:
    """Rows of pictures without labels whose reading can stand for a label; the report is told of the others.

    Args:
        labelled: hashes of the images that have a label.

    Raises: ValueError for pictures that a benchmark has too, unless they are to be left out; if nothing is left.
    """
    pack, readings = packs.unlabelled[root], packs.readings[root]
    of_benchmarks = np.zeros(len(pack), bool)
    for name, benchmark in packs.benchmarks.items():
        shared = np.isin(pack.image_hashes, benchmark.image_hashes)
        of_benchmarks |= shared
        if shared.any() and config.unlabelled_overlap == "refuse":
            raise ValueError(
                f"{shared.sum()} of the {len(pack)} pictures in {root} are pictures of the benchmark {name} too, such "
                f"as {pack.keys[shared.argmax()]}: who trains on them is not measured by it any more. Leave them out "
                "with --data.unlabelled-overlap leave_out, or leave that benchmark out"
            )
    refused: dict[RejectReason, np.ndarray] = {
        "picture of a benchmark": of_benchmarks,
        "has a label": np.isin(pack.image_hashes, labelled),
        "nothing read": np.array([not charset.normalise(text) for text in readings.texts]),
        "low confidence": readings.confidences < config.unlabelled_min_confidence,
        "over-long label": np.array([len(text) > config.max_label_length for text in readings.texts]),
    }
    kept = np.ones(len(pack), bool)
    for reason, rows in refused.items():
        for row in np.flatnonzero(rows & kept):
            report.add(reason, pack.keys[row])
        kept &= ~rows
    if not kept.any():
        raise ValueError(f"{root}: {report.describe()}; none is left to train on. Lower data.unlabelled_min_confidence")
    return np.flatnonzero(kept)


def _fingerprint_of_readings(packs: _Packs, rows_of: Mapping[str, np.ndarray]) -> str:
    """Of what is used: confidences that differ in their last digits, on another machine for instance, are the same."""
    digest = hashlib.blake2b(digest_size=16)
    for root, readings in packs.readings.items():
        digest.update(packs.unlabelled[root].fingerprint.encode() + rows_of[root].tobytes())
        digest.update("\n".join(readings.texts[row] for row in rows_of[root]).encode())
    return digest.hexdigest()


def _open(config: DataConfig, progress: Progress | None, reader: WordReader | None) -> _Packs:
    def packed(roots: Sequence[Path], labelled: bool = True) -> dict[str, Pack]:
        return {str(root): _build(config, root, "none", progress, labelled) for root in roots}

    if config.unlabelled_roots and reader is None:
        raise ValueError(
            f"what the teacher reads in {', '.join(config.unlabelled_roots)} is not in {config.cache_folder} here; "
            "where a run has several machines, put data.cache_folder on a mount that they share"
        )
    train, unlabelled, beside = [], packed(_unlabelled_folders(config, progress), labelled=False), []
    if config.train_roots or not unlabelled:
        train = _folders(config, "train_roots", progress)
    if config.num_rendered_beside_roots and (config.train_roots or unlabelled):
        beside = [_rendered(config, "train", config.num_rendered_beside_roots, progress)]
    if both := [str(root) for root in train if str(root) in unlabelled]:
        raise ValueError(f"{both[0]} is given in data.train_roots and in data.unlabelled_roots; name it in one of them")
    readings = {root: read_once(pack, reader) for root, pack in unlabelled.items() if reader}
    return _Packs(packed(train), unlabelled, packed(beside), open_benchmarks(config, progress), readings)


def _unlabelled_folders(config: DataConfig, progress: Progress | None) -> list[Path]:
    """Those of LMDBs under a root, or, where there is none, the root itself."""
    folders: list[Path] = []
    for root in config.unlabelled_roots:
        place = fetch(root, config.cache_folder, progress)
        found = [file.parent for file in sorted(place.rglob(LMDB_FILE))]
        folders += [folder for folder in found or [place] if folder not in folders]
    return folders


def _reopen(description: DatasetsDescription, config: DataConfig) -> _Packs | None:
    """None where a pack, or what was read in it, is not there or not what it was."""
    if description.decides != _decides(config):
        return None
    folder, readings = Path(config.cache_folder).expanduser(), {}

    def opened(files: tuple[tuple[str, PackFile], ...]) -> dict[str, Pack]:
        packs = {root: Pack.open(folder / file.file) for root, file in files}
        for root, file in files:
            if (packs[root].fingerprint, len(packs[root])) != (file.fingerprint, file.num_pairs):
                raise UnusablePack(packs[root].path, "is another set's")
            if file.readings:
                readings[root] = Readings.open(folder / file.readings, file.num_pairs)
        return packs

    try:
        train, unlabelled, beside, benchmarks = map(
            opened, (description.train, description.unlabelled, description.beside, description.benchmarks)
        )
    except (FileNotFoundError, UnusablePack):
        return None
    known = {root: found for root, found in readings.items() if found is not None}
    return _Packs(train, unlabelled, beside, benchmarks, known) if len(known) == len(readings) else None


def _refuse_other_words(description: DatasetsDescription, config: DataConfig, packs: _Packs) -> None:
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
    after |= {"teacher_cache", "placement", "num_loader_threads"}
    after |= {"unlabelled_min_confidence", "unlabelled_weight", "unlabelled_overlap"}
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


def rendered_pack(config: DataConfig, name: RenderedSet, num_texts: int, progress: Progress | None = None) -> Pack:
    """Rendered texts in the config's shares, as a benchmark is degraded; sets of other names have other pictures."""
    return _build(config, _rendered(config, name, num_texts, progress), config.benchmark_degradation, progress)


def _rendered(config: DataConfig, name: RenderedSet, num_pairs: int, progress: Progress | None) -> Path:
    """The LMDB of rendered texts, made by the first process that asks."""
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
            render_pairs(root, num_pairs, seed, layout="single", shares=config.text_shares, progress=progress)
    return root


def _build(
    config: DataConfig, root: Path, degradation: DegradationName, progress: Progress | None, labelled: bool = True
) -> Pack:
    return build_pack(
        root,
        cache_folder=config.cache_folder,
        degradation=degradation,
        max_label_length=config.max_label_length,
        max_rejected_fraction=config.max_rejected_fraction,
        labelled=labelled,
        progress=progress,
    )
