from __future__ import annotations

import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from itertools import pairwise

import numpy as np
import pytest
from scipy import ndimage

from kdltr_core.data import degrade as module
from kdltr_core.data.degrade import degrade, gaussian_blur, gaussian_noise
from tests.kdltr_core.data.sets import drawn


def small(seed: int = 0) -> np.ndarray:
    return drawn(seed, 64, 16)


def test_the_same_image_and_seed_give_the_same_pixels_and_the_image_is_not_changed() -> None:
    image = small()
    before = image.copy()
    for seed in range(60):
        first = degrade(image, seed)
        np.testing.assert_array_equal(first, degrade(image, seed))
        assert first.shape == image.shape
        assert first.dtype == np.uint8
    np.testing.assert_array_equal(image, before)


def test_a_read_only_view_with_channels_first_is_degraded_like_its_copy() -> None:
    planes = np.ascontiguousarray(small().transpose(2, 0, 1))
    planes.setflags(write=False)
    for seed in range(40):
        np.testing.assert_array_equal(degrade(planes.transpose(1, 2, 0), seed), degrade(small(), seed))


def test_another_process_draws_the_same_pixels() -> None:
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as processes:
        theirs = processes.submit(_degraded, 20).result()
    for ours, other in zip(_degraded(20), theirs, strict=True):
        np.testing.assert_array_equal(ours, other)


def _degraded(count: int) -> list[np.ndarray]:
    return [degrade(small(), seed) for seed in range(count)]


def test_none_gives_a_copy() -> None:
    image = small()
    result = degrade(image, 3, "none")
    np.testing.assert_array_equal(result, image)
    assert not np.shares_memory(result, image)


def test_each_of_the_eight_operations_comes_with_probability_a_quarter_and_in_any_order(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    drawn_operations: list[int] = []
    num_operations = len(module._PUBLISHED)

    def recording(number: int) -> object:
        def operation(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
            drawn_operations.append(number)
            return image

        return operation

    monkeypatch.setattr(module, "_PUBLISHED", tuple(recording(number) for number in range(num_operations)))
    counts = np.zeros(num_operations)
    ascending = followed = none = 0
    for seed in range(4000):
        drawn_operations.clear()
        degrade(small(), seed)
        counts[drawn_operations] += 1
        none += not drawn_operations
        followed += max(len(drawn_operations) - 1, 0)
        ascending += sum(a < b for a, b in pairwise(drawn_operations))
    assert num_operations == 8
    # Four standard errors of the binomials.
    assert np.abs(counts / 4000 - 0.25).max() < 4 * np.sqrt(0.25 * 0.75 / 4000)
    assert abs(none / 4000 - 0.75**8) < 4 * np.sqrt(0.1 * 0.9 / 4000)
    assert abs(ascending / followed - 0.5) < 4 * np.sqrt(0.25 / followed)


@pytest.mark.parametrize("sigma", [0.5, 1.0, 2.5])
def test_gaussian_blur_agrees_with_another_implementation(sigma: float) -> None:
    image = small()
    expected = ndimage.gaussian_filter(image.astype(float), (sigma, sigma, 0), mode="mirror", truncate=4)
    # The recipe's kernel holds 90 to 99 % of the weight, scipy's all of it.
    assert np.abs(gaussian_blur(image, sigma) - expected).mean() < 3.0
    np.testing.assert_array_equal(gaussian_blur(image, 0.0), image)


def test_gaussian_noise_has_the_asked_standard_deviation_and_follows_its_seed() -> None:
    grey = np.full((64, 256, 3), 128, np.uint8)
    noise = gaussian_noise(grey, 10.0, seed=1).astype(float) - 128
    assert noise.std() == pytest.approx(10.0, rel=0.02)
    assert np.abs(np.corrcoef(noise.reshape(-1, 3).T) - np.eye(3)).max() < 0.05
    np.testing.assert_array_equal(gaussian_noise(grey, 10.0, seed=1), gaussian_noise(grey, 10.0, seed=1))
    assert (gaussian_noise(grey, 10.0, seed=2) != gaussian_noise(grey, 10.0, seed=1)).any()
    np.testing.assert_array_equal(gaussian_noise(grey, 0.0, seed=1), grey)


def test_noise_is_clipped_and_does_not_wrap_around() -> None:
    white = np.full((16, 64, 3), 255, np.uint8)
    assert gaussian_noise(white, 10.0, seed=0).min() > 180


@pytest.mark.parametrize(
    "image", [np.zeros((16, 64), np.uint8), np.zeros((16, 64, 3), np.float32), np.zeros((3, 16, 64), np.uint8)]
)
def test_other_images_are_refused(image: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"expected \(H, W, 3\) uint8"):
        degrade(image, 0)


def test_other_names_and_negative_sigmas_are_refused() -> None:
    with pytest.raises(ValueError, match="unknown degradation 'harsh'"):
        degrade(small(), 0, "harsh")  # type: ignore[arg-type]
    for call in (lambda: gaussian_blur(small(), -1.0), lambda: gaussian_noise(small(), -1.0, 0)):
        with pytest.raises(ValueError, match="expected 0 or more"):
            call()


def test_superpixels_never_wipe_out_the_whole_image() -> None:
    """The last segment is never painted, so an image that is one segment is left as it is."""
    halves = np.zeros((16, 64, 3), np.uint8)
    halves[:, 32:] = 200
    for seed in range(100):
        result = module._superpixels(halves, np.random.default_rng(seed))
        assert len(np.unique(result)) == 2 or (result[:, 32:] == 200).all()
    flat = np.full((16, 64, 3), 90, np.uint8)
    np.testing.assert_array_equal(module._superpixels(flat, np.random.default_rng(0)), flat)


def test_an_interlaced_camera_displaces_every_second_row_by_two_pixels_to_one_side() -> None:
    bar = np.full((16, 64, 3), 40, np.uint8)
    bar[:, 30:34] = 220
    sides = set()
    for seed in range(40):
        seen = degrade(bar, seed, "interlaced").astype(float).mean(axis=2) - 40
        centres = (seen * np.arange(64)).clip(0).sum(axis=1) / seen.clip(0).sum(axis=1)
        shift = np.median(centres[3:-3:2] - centres[2:-4:2])
        sides.add(np.sign(shift))
        # Blur up to 0.6 pixels mixes neighbouring rows, and noise moves the centres a little.
        assert 0.5 < abs(shift) < 3.0
    assert sides == {-1.0, 1.0}
    np.testing.assert_array_equal(degrade(bar, 3, "interlaced"), degrade(bar, 3, "interlaced"))
