"""Pixels kept on the device: the same batches as from the host, and no others promised."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from kdltr_core.charset import Charset36
from kdltr_core.data.batch import Batch
from kdltr_core.data.dataset import TrainingPairs
from kdltr_core.data.device_cache import DeviceCache
from kdltr_core.data.loader import on_device, training_batches
from kdltr_core.data.pack import build_pack
from kdltr_core.data.sampler import EpochSampler
from tests.kdltr_core.data.sets import paired_records, single_records, write_records

LABELS = ["a", "bc", "def", "ghij", "klmno", "pqrstu", "vwxyz"]
CPU = torch.device("cpu")


@pytest.fixture
def pairs(tmp_path: Path) -> TrainingPairs:
    """Two packs, of which two rows are left out."""
    packs = [
        build_pack(write_records(tmp_path / name, paired_records(LABELS, first_seed)), cache_folder=tmp_path / "cache")
        for name, first_seed in (("one", 0), ("two", 100))
    ]
    return TrainingPairs(packs, np.delete(np.arange(14), [2, 9]), "published", "train")


def batches(pairs: TrainingPairs, resident: DeviceCache | None) -> list[Batch]:
    made = training_batches(
        pairs,
        EpochSampler(len(pairs), 5, seed=2),
        Charset36,
        seed=1,
        rank=1,
        world_size=2,
        num_steps=9,
        with_pixels=resident is None,
    )
    return [batch for _, batch in on_device(made, CPU, resident)]


def test_batches_are_those_of_the_host(pairs: TrainingPairs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kdltr_core.data.device_cache._PAIRS_AT_A_TIME", 5)
    resident = DeviceCache(pairs, CPU)
    expected = batches(pairs, None)
    monkeypatch.setattr(pairs, "gather", None)  # the host is not asked again
    for host, device in zip(expected, batches(pairs, resident), strict=True):
        assert host.labels == device.labels
        assert host.high_res.shape[1:] == (3, 32, 128)
        for name in ("high_res", "low_res", "targets", "lengths", "rows"):
            assert torch.equal(getattr(host, name), getattr(device, name)), name


def test_pixels_that_are_made_anew_are_refused_and_those_that_nothing_degrades_are_taken(tmp_path: Path) -> None:
    pack = build_pack(write_records(tmp_path / "s", single_records(LABELS)), cache_folder=tmp_path / "cache")
    sentence = r"low_res of s is degraded \(data.train_degradation published\) anew in every epoch"
    with pytest.raises(ValueError, match=f"data.placement is device, and {sentence}.*leave --data.placement out"):
        DeviceCache(TrainingPairs([pack], np.arange(7), "published", "train"), CPU)
    DeviceCache(TrainingPairs([pack], np.arange(7), "none", "train"), CPU)
