"""What makes low_res worse: against numpy, Pillow and scipy called directly, and which words are sampled."""

import io
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from scipy import ndimage

from kdltr_core.data.images import NativeImages
from kdltr_core.data.pack import build_pack
from kdltr_core.evaluation.corruptions import (
    NATIVE,
    SEVERITIES,
    CorruptedPairs,
    corrupt,
    jpeg,
    motion_blur,
    sample_words,
)
from tests.kdltr_core.data.sets import drawn, paired_records, single_records, write_records


def test_jpeg_is_pillows_with_colour_at_half_the_resolution():
    image, buffer = drawn(3, 64, 16), io.BytesIO()
    Image.fromarray(image).save(buffer, "JPEG", quality=20, subsampling=2)
    np.testing.assert_array_equal(jpeg(image, 20), np.asarray(Image.open(buffer)))
    assert not np.array_equal(jpeg(image, 20), jpeg(image, 80))


@pytest.mark.parametrize(("angle", "axis"), [(0.0, 1), (90.0, 0)])
def test_motion_is_the_mean_along_a_line(angle, axis):
    image = drawn(1, 64, 16)
    expected = ndimage.uniform_filter1d(image.astype(float), 5, axis=axis, mode="mirror")
    np.testing.assert_allclose(motion_blur(image, 5, angle), expected, atol=0.51)
    np.testing.assert_array_equal(motion_blur(image, 1, 33.0), image)


def test_motion_keeps_a_flat_picture_whatever_its_direction():
    grey = np.full((16, 64, 3), 100, np.uint8)
    for seed in range(20):
        np.testing.assert_allclose(corrupt(grey, "motion_blur", 9, seed), 100, atol=1)


@pytest.mark.parametrize("length", [0, 4])
def test_an_even_or_empty_motion_is_refused(length):
    with pytest.raises(ValueError, match="expected an odd number"):
        motion_blur(drawn(1), length, 0.0)


@pytest.mark.parametrize("name", ["gaussian_noise", "motion_blur"])
def test_what_is_random_follows_the_seed(name):
    image, severity = drawn(2, 64, 16), SEVERITIES[name][-1]
    np.testing.assert_array_equal(corrupt(image, name, severity, 5), corrupt(image, name, severity, 5))
    assert not np.array_equal(corrupt(image, name, severity, 5), corrupt(image, name, severity, 6))


@pytest.fixture
def packs(tmp_path):
    """Two sets of 12 and 4 words; a drawn picture has 30 rows and 90 columns."""
    folders = {
        "a": write_records(tmp_path / "a", single_records([f"word{i}" for i in range(12)])),
        "b": write_records(tmp_path / "b", paired_records([f"text{i}" for i in range(4)], 50)),
    }
    return folders, {name: build_pack(folder, cache_folder=tmp_path / "cache") for name, folder in folders.items()}


def test_a_sample_is_the_same_every_time_without_repeats_and_of_every_set_in_proportion(packs):
    _, packs = packs
    sampled = sample_words(packs, 8, seed=1)
    words = [label for pack in sampled.values() for label in pack.labels]
    assert len(words) == len(set(words)) == 8
    assert words == [label for pack in sample_words(packs, 8, seed=1).values() for label in pack.labels]
    assert words != [label for pack in sample_words(packs, 8, seed=2).values() for label in pack.labels]
    # Of 16 words each is in a sample of 8 half the time: set b has 2 of its 4 on average.
    shares = [sum(map(len, (s for n, s in sample_words(packs, 8, seed).items() if n == "b"))) for seed in range(300)]
    assert np.mean(shares) == pytest.approx(2.0, abs=0.25)
    everything = sample_words(packs, 99)
    assert [len(everything[name]) for name in packs] == [12, 4]


def test_words_that_are_not_judged_are_not_sampled(packs):
    _, packs = packs
    labels = ["!!" if row % 2 else label for row, label in enumerate(packs["a"].labels)]
    pairs = SimpleNamespace(name="a", labels=labels, keys=packs["a"].keys)
    assert sample_words({"a": pairs}, 99)["a"].labels == labels[::2]
    assert len(sample_words({"a": pairs}, 99, protocol="94")["a"]) == 12


def test_a_sampled_word_is_the_one_of_the_set(packs):
    _, packs = packs
    sampled = sample_words(packs, 6, seed=3)["a"]
    row = packs["a"].labels.index(sampled.labels[1])
    assert sampled.keys[1] == packs["a"].keys[row]
    assert torch.equal(sampled.gather(np.array([1]))[1], packs["a"].gather(np.array([row]))[1])


@pytest.mark.parametrize("name", ["a", "b"])
def test_native_images_are_the_sources(packs, name):
    folders, packs = packs
    native = NativeImages(folders)
    keys = packs[name].keys
    assert native.sizes(name, keys) == [(30, 90)] * len(keys)
    seed = (50 if name == "b" else 0) + int(keys[2].split("-")[1])
    np.testing.assert_array_equal(native.pixels(name, keys[2]), drawn(seed))


def test_resolution_brings_the_source_to_the_severity_and_then_to_the_readers_sizes(packs):
    folders, packs = packs
    pairs = sample_words(packs, 99)["a"]
    small = CorruptedPairs(pairs, "resolution", 8.0, "a", NativeImages(folders))
    source = Image.fromarray(drawn(3)).resize((32, 8), Image.Resampling.BICUBIC)
    np.testing.assert_array_equal(small.sources(np.array([2]))[0], np.asarray(source))
    for found, size in zip(small.gather(np.array([2])), [(128, 32), (64, 16)], strict=True):
        expected = np.asarray(source.resize(size, Image.Resampling.BICUBIC))
        np.testing.assert_array_equal(found[0].numpy().transpose(1, 2, 0), expected)


def test_at_native_resolution_the_images_are_the_packs_own(packs):
    folders, packs = packs
    native = CorruptedPairs(sample_words(packs, 99)["a"], "resolution", NATIVE, "a", NativeImages(folders))
    rows = np.arange(4)
    for found, expected in zip(native.gather(rows), packs["a"].gather(rows), strict=True):
        assert torch.equal(found, expected)
