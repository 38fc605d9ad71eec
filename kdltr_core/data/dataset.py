"""All the words of a run: training and validation pairs, and the benchmarks."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor

from kdltr_core.charset import Charset
from kdltr_core.config import MAX_LABEL_LENGTH, DataConfig, DegradationName
from kdltr_core.data.degrade import make_low_res
from kdltr_core.data.opened_packs import DatasetsDescription, OpenedPack, Role, describe_packs, open_packs
from kdltr_core.data.pack import HIGH_RES_SHAPE, LOW_RES_SHAPE, Pack
from kdltr_core.data.readings import Readings, WordReader
from kdltr_core.data.rejected import RejectionReport, RejectReason
from kdltr_core.files import Progress


class TrainingPairs:
    """Rows of several packs, seen as one set.

    Where a pack is of a single set, low_res is degraded when it is gathered.

    Args:
        packs: the sets, one behind the other.
        rows: (N,) which rows of the joined packs belong to this set.
        degradation: of low_res of single sets.
        labels: of all rows of the joined packs; by default the packs' own.
        weights: (rows of the joined packs,) float32, of each label in cross entropy; None: all 1.
    """

    def __init__(
        self,
        packs: Sequence[Pack],
        rows: np.ndarray,
        degradation: DegradationName,
        *,
        labels: Sequence[str] | None = None,
        weights: np.ndarray | None = None,
    ) -> None:
        self.packs = tuple(packs)
        self.degradation: DegradationName = degradation
        self._rows = rows
        self._starts = np.concatenate([[0], np.cumsum([len(pack) for pack in packs])])
        self._pack_of = np.searchsorted(self._starts, rows, side="right") - 1
        # (N,) bool: whose low_res is made anew whenever it is gathered.
        self.degraded: np.ndarray = np.array([pack.kind == "single" for pack in packs])[self._pack_of]
        self.degraded &= degradation != "none"
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
        high_res, low_res = self.gather_packed(indices)
        shown, pixels = high_res.numpy(), low_res.numpy()
        seeds = self.image_hashes[indices] if seeds is None else seeds
        for place in np.flatnonzero(self.degraded[indices]):
            high, low = (side[place].transpose(1, 2, 0) for side in (shown, pixels))
            degraded = make_low_res(high, low, int(seeds[place]), self.degradation)
            pixels[place] = degraded.transpose(2, 0, 1)
        return high_res, low_res

    def gather_packed(self, indices: np.ndarray) -> tuple[Tensor, Tensor]:
        """As ``gather``, and nothing is degraded."""
        rows, owners = self._rows[indices], self._pack_of[indices]
        high_res, low_res = (
            torch.empty((len(rows), *shape), dtype=torch.uint8) for shape in (HIGH_RES_SHAPE, LOW_RES_SHAPE)
        )
        for pack in np.unique(owners):
            here = np.flatnonzero(owners == pack)
            high_res[here], low_res[here] = self.packs[pack].gather(rows[here] - self._starts[pack])
        return high_res, low_res


@dataclass(frozen=True)
class Datasets:
    """What a run learns from, is chosen by, and is read on.

    Attributes:
        train: training pairs; their low_res is degraded anew by the seeds that ``gather`` is given.
        validation: held-out pairs with a fixed low_res.
        benchmarks: packs by the name of their set.
        rejected: what could not be used of each set, by the root of a training set or the name of a benchmark.
        num_read: by the roots of pictures without labels, how many are used with the teacher's reading as their label.
        validates_on_readings: whether the held-out pairs' labels are the teacher's readings, as no word has a label.
        description: for ``load_datasets`` in another process.
    """

    train: TrainingPairs
    validation: TrainingPairs
    benchmarks: Mapping[str, Pack]
    rejected: Mapping[str, RejectionReport]
    num_read: Mapping[str, int]
    validates_on_readings: bool
    description: DatasetsDescription

    @property
    def fingerprints(self) -> dict[str, str]:
        """Of every set, as hex by "train/NAME" or "benchmark/NAME": other words have another, copies the same."""
        found: dict[str, str] = {}
        for number, pack in enumerate(self.train.packs, start=1):
            name = f"train/{pack.name}"
            found[f"{name}-{number}" if name in found else name] = pack.fingerprint
        if self.num_read:
            # What is used of them: confidences that differ in their last digits, on another machine, are the same.
            used = "\n".join(self.train.labels + self.validation.labels)
            found["the teacher's readings"] = hashlib.blake2b(used.encode(), digest_size=16).hexdigest()
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
    packs = open_packs(config, progress, reader, description)
    joined = [opened for opened in packs if opened.role != "benchmark"]
    benchmarks = {opened.name: opened.pack for opened in packs if opened.role == "benchmark"}
    of_benchmarks = np.concatenate([pack.image_hashes for pack in benchmarks.values()])
    validated: Role = "train" if any(opened.role == "train" for opened in joined) else "unlabelled"
    rejected: dict[str, RejectionReport] = {}
    usable: list[np.ndarray] = []
    labelled = np.empty(0, np.uint64)
    for opened in joined:
        report = rejected[opened.name] = copy.deepcopy(opened.pack.report)
        if opened.readings:
            usable.append(_trusted_rows(opened, opened.readings, config, charset, of_benchmarks, labelled, report))
            continue
        usable.append(_writable_rows(opened.pack.keys, opened.pack.labels, charset, report))
        report.check(opened.name, config.max_rejected_fraction)
        if opened.role == "train":
            labelled = np.concatenate([labelled, opened.pack.image_hashes[usable[-1]]])
    rejected |= {name: pack.report for name, pack in benchmarks.items()}

    starts = np.cumsum([0, *(len(opened.pack) for opened in joined)])[:-1]
    rows = np.concatenate([some + start for some, start in zip(usable, starts, strict=True)])
    hashes = np.concatenate([opened.pack.image_hashes for opened in joined])[rows]
    may_be_held_out = np.repeat([opened.role == validated for opened in joined], list(map(len, usable)))
    held_out = np.zeros(len(rows), bool)
    held_out[may_be_held_out] = held_out_rows(hashes[may_be_held_out], config.validation_fraction)
    if held_out.sum() == may_be_held_out.sum():
        raise ValueError(
            f"the {may_be_held_out.sum()} usable words of data.{validated}_roots are copies of too few images to hold "
            "some out for validation; give more with data.train_roots"
        )
    weights = None
    if config.unlabelled_weight != 1 and any(opened.readings for opened in joined):
        of_roots = [config.unlabelled_weight if opened.readings else 1.0 for opened in joined]
        weights = np.repeat(np.array(of_roots, np.float32), [len(opened.pack) for opened in joined])
    pairs = partial(
        TrainingPairs,
        [opened.pack for opened in joined],
        labels=[label for p in joined for label in (p.readings.texts if p.readings else p.pack.labels)],
        weights=weights,
    )
    return Datasets(
        train=pairs(rows[~held_out], config.train_degradation),
        validation=pairs(rows[held_out], config.benchmark_degradation),
        benchmarks=benchmarks,
        rejected=rejected,
        num_read={opened.name: len(some) for opened, some in zip(joined, usable, strict=True) if opened.readings},
        validates_on_readings=validated == "unlabelled",
        description=describe_packs(config, packs),
    )


def _writable_rows(keys: Sequence[str], labels: Sequence[str], charset: Charset, report: RejectionReport) -> np.ndarray:
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
        elif len(written) > MAX_LABEL_LENGTH:
            reason = "over-long label"  # in basic letters it may be longer
        if reason:
            report.add(reason, keys[row])
            rejected.append(row)
        else:
            report.add_lost(charset.outside(label), label)
    return np.delete(np.arange(len(labels)), rejected)


def _trusted_rows(
    opened: OpenedPack,
    readings: Readings,
    config: DataConfig,
    charset: Charset,
    of_benchmarks: np.ndarray,
    labelled: np.ndarray,
    report: RejectionReport,
) -> np.ndarray:
    """Rows of pictures without labels whose reading can stand for a label; the report is told of the others.

    Args:
        of_benchmarks, labelled: hashes of the images of benchmarks, and of those that have a label.

    Raises: ValueError for pictures that a benchmark has too, unless they are to be left out; if nothing is left.
    """
    pack = opened.pack
    shared = np.isin(pack.image_hashes, of_benchmarks)
    if shared.any() and config.unlabelled_overlap == "refuse":
        raise ValueError(
            f"{shared.sum()} of the {len(pack)} pictures in {opened.name} are pictures of a benchmark too, such as "
            f"{pack.keys[shared.argmax()]}: who trains on them is not measured by it any more. Leave them out with "
            "--data.unlabelled-overlap leave_out, or leave that benchmark out"
        )
    refused: dict[RejectReason, np.ndarray] = {
        "picture of a benchmark": shared,
        "has a label": np.isin(pack.image_hashes, labelled),
        "nothing read": np.array([not charset.normalise(text) for text in readings.texts]),
        "low confidence": readings.confidences < config.unlabelled_min_confidence,
        "over-long label": np.array([len(text) > MAX_LABEL_LENGTH for text in readings.texts]),
    }
    kept = np.ones(len(pack), bool)
    for reason, rows in refused.items():
        for row in np.flatnonzero(rows & kept):
            report.add(reason, pack.keys[row])
        kept &= ~rows
    if not kept.any():
        raise ValueError(
            f"{opened.name}: {report.describe()}; none is left to train on. Lower data.unlabelled_min_confidence"
        )
    return np.flatnonzero(kept)


def held_out_rows(image_hashes: np.ndarray, fraction: float) -> np.ndarray:
    """(N,) bool: which images, uint64 hashes (N,), fall under ``fraction`` of all hashes; at least the lowest does."""
    limit = np.uint64(int(fraction * 2**64))
    return image_hashes <= max(limit, image_hashes.min())
