"""Pixels kept on the device: the same batches as from the host, or degraded ones that follow from their seeds."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from kdltr_core.charset import Charset36
from kdltr_core.data.batch import Batch
from kdltr_core.data.dataset import TrainingPairs
from kdltr_core.data.device_cache import DeviceCache, has_room
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
    return TrainingPairs(packs, np.delete(np.arange(14), [2, 9]), "published")


def batches(pairs: TrainingPairs, resident: DeviceCache | None) -> list[Batch]:
    made = training_batches(
        pairs,
        EpochSampler(len(pairs), 5, seed=2),
        Charset36,
        seed=1,
        rank=1,
        world_size=2,
        num_steps=9,
        pixels="degraded" if resident is None else "none" if resident.keeps else "packed",
    )
    return [batch for _, batch in on_device(made, CPU, resident)]


@pytest.mark.parametrize("keeps", [True, False])
def test_batches_are_those_of_the_host(keeps: bool, pairs: TrainingPairs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kdltr_core.data.device_cache._PAIRS_AT_A_TIME", 5)
    monkeypatch.setattr("kdltr_core.data.loader._IMAGES_AT_A_TIME", 4)  # two batches of two or three, and one is left
    resident = DeviceCache(pairs, CPU, keeps)
    expected = batches(pairs, None)
    monkeypatch.setattr(pairs, "gather", None)  # the host degrades nothing
    for host, device in zip(expected, batches(pairs, resident), strict=True):
        assert host.labels == device.labels
        assert host.high_res.shape[1:] == (3, 32, 128)
        for name in ("high_res", "low_res", "targets", "lengths", "rows"):
            assert torch.equal(getattr(host, name), getattr(device, name)), name


def test_what_is_degraded_is_another_picture_in_every_epoch_and_the_same_after_a_resume(tmp_path: Path) -> None:
    """Wherever its pixels are kept; and what has a low_res of its own keeps it."""
    packs = [
        build_pack(write_records(tmp_path / name, records(LABELS)), cache_folder=tmp_path / "cache")
        for name, records in (("single", single_records), ("paired", paired_records))
    ]
    pairs = TrainingPairs(packs, np.arange(14), "mixed")
    sampler = EpochSampler(14, 14, seed=2)
    own = pairs.gather_packed(np.arange(14))[1]

    def steps(start: int, keeps: bool = True) -> list[Batch]:
        made = training_batches(
            pairs, sampler, Charset36, seed=1, start_step=start, num_steps=3, pixels="none" if keeps else "packed"
        )
        return [batch for _, batch in on_device(made, CPU, DeviceCache(pairs, CPU, keeps))]

    whole = steps(0)
    for batch in whole:
        paired = torch.from_numpy(batch.indices >= 7)
        assert torch.equal(batch.low_res[paired], own[batch.indices][paired])
    in_order = [batch.low_res[batch.indices.argsort()][:7] for batch in whole]
    assert not torch.equal(in_order[0], in_order[1])
    assert torch.equal(steps(2)[0].low_res, whole[2].low_res)
    for batch, expected in zip(steps(0, keeps=False), whole, strict=True):
        assert torch.equal(batch.low_res, expected.low_res)
        assert torch.equal(batch.high_res, expected.high_res)


def test_on_a_cpu_nothing_is_kept_twice() -> None:
    assert not has_room(1, CPU)
