"""What a teacher says of every image, kept: the same output, computed once."""

from __future__ import annotations

import copy
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from kdltr_core.charset import Charset94
from kdltr_core.data.dataset import TrainingPairs, load_datasets
from kdltr_core.data.images import as_float
from kdltr_core.recognizers import Recognizer
from kdltr_core.train.teacher_cache import TeacherCache, open_teacher_cache
from tests.kdltr_core.small import TEACHERS, build_small, drawn_batch
from tests.kdltr_core.train.runs import config_of, run, write_words

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    build_small(monkeypatch)


@pytest.fixture(scope="module")
def roots(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_words(tmp_path_factory.mktemp("words"), "parseq_tiny")


@pytest.fixture(scope="module")
def pairs(roots: Path) -> TrainingPairs:
    return load_datasets(config_of(roots).data, Charset94).train


def teacher_of(family: str) -> Recognizer:
    torch.manual_seed(0)
    return TEACHERS[family]().eval()


@pytest.mark.parametrize("family", TEACHERS)
def test_what_is_encoded_and_its_rest_make_the_training_forward(family: str) -> None:
    teacher = teacher_of(family)
    pixels, _, targets, _, permutations = drawn_batch(teacher, "Hello", "a", "LTR7", num_orders=6)
    with torch.inference_mode():
        whole = teacher.forward_training(pixels / 255, targets, permutations)
        parts = teacher.decode(teacher.encode(pixels / 255), targets, permutations)
    for name in ("logits", "visual", "semantic", "attention"):
        expected, found = getattr(whole, name), getattr(parts, name)
        assert (expected is None) == (found is None)
        if expected is not None:
            assert torch.equal(expected, found), name


def cache_of(teacher: Recognizer, pairs: TrainingPairs, folder: Path) -> TeacherCache:
    return open_teacher_cache(teacher, pairs, cache_folder=folder, device=CPU, precision="float32", batch_size=4)


@pytest.mark.parametrize("family", TEACHERS)
def test_what_is_kept_is_what_the_teacher_says(family: str, pairs: TrainingPairs, tmp_path: Path) -> None:
    teacher = teacher_of(family)
    cache = cache_of(teacher, pairs, tmp_path)
    indices = np.array([5, 0, 5, 3])
    with torch.inference_mode():
        expected = teacher.encode(as_float(pairs.gather(indices)[0]))
    found = cache.gather(indices, CPU)
    assert found.keys() == expected.keys()
    for name, values in expected.items():
        # bfloat16 keeps eight bits; batches of another size may be rounded otherwise in the last of float32's.
        tolerance = 1e-5 if name == "logits" else 2**-8
        torch.testing.assert_close(found[name], values, rtol=tolerance, atol=1e-5)


def test_outputs_are_computed_once_for_one_teacher_and_one_set(
    pairs: TrainingPairs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    teacher, rows = teacher_of("abinet"), np.arange(4)
    first = cache_of(teacher, pairs, tmp_path).gather(rows, CPU)["logits"]
    other, thrice = copy.deepcopy(teacher), copy.deepcopy(teacher)
    thrice.num_iterations = 3  # the weights are the same
    with torch.no_grad():
        next(other.parameters()).add_(1)
    for another in (other, thrice):
        assert not torch.equal(cache_of(another, pairs, tmp_path).gather(rows, CPU)["logits"], first)
    monkeypatch.setattr(teacher, "encode", None)  # it is not asked again
    assert torch.equal(cache_of(teacher, pairs, tmp_path).gather(rows, CPU)["logits"], first)


def test_what_does_not_fit_the_disk_is_refused_before_it_is_filled(
    pairs: TrainingPairs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: SimpleNamespace(free=1000))
    with pytest.raises(OSError, match=r"GB are free.*free some space there.*data.teacher_cache to off"):
        cache_of(teacher_of("parseq_tiny"), pairs, tmp_path)
    assert not list(tmp_path.rglob("*.bin"))


def test_a_run_with_a_teacher_cache_has_the_losses_of_one_without(roots: Path, tmp_path: Path) -> None:
    config = config_of(roots, num_steps=2, recognizer__teacher_weights=str(roots / "parseq_tiny-0.pt"))
    without, with_cache = (
        run(config.override({"data.teacher_cache": cache}), tmp_path / cache)[1].values for cache in ("off", "on")
    )
    for step in (1, 2):
        assert with_cache[step]["train/loss"] == pytest.approx(without[step]["train/loss"], rel=5e-3)
        assert with_cache[step]["train/loss"] != without[step]["train/loss"]
