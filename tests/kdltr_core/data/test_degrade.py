"""The published degradation: what each of its eight operations makes of a picture, how often, and the same anywhere."""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor

import cv2
import numpy as np
import pytest
from scipy import ndimage

from kdltr_core.data.degrade import degrade, gaussian_blur
from tests.kdltr_core.data.sets import drawn

NUM_SEEDS = 2000
# In the order in which a seed chooses them.
OPERATIONS = ("gaussian", "average", "median", "bilateral", "motion", "mean shift", "superpixels", "noise")


def small(seed: int = 0) -> np.ndarray:
    return drawn(seed, 64, 16)


def chosen(seed: int) -> np.ndarray:
    """Which of the operations a seed chooses, each with probability a quarter."""
    return np.random.default_rng(seed).random(len(OPERATIONS)) < 0.25


def degraded_by(operation: str, image: np.ndarray, most: int = 40) -> Iterator[np.ndarray]:
    """Pictures that one operation alone was applied to."""
    alone = np.array(OPERATIONS) == operation
    seeds = [seed for seed in range(NUM_SEEDS) if (chosen(seed) == alone).all()]
    assert len(seeds) > 20
    yield from (degrade(image, seed) for seed in seeds[:most])


def nearest(picture: np.ndarray, candidates: list[np.ndarray]) -> int:
    """How far it is from the nearest of several, in grey levels."""
    return min(int(np.abs(picture.astype(int) - candidate).max()) for candidate in candidates)


def test_what_nothing_was_chosen_for_stays_as_it_is() -> None:
    """Of a quarter each: a tenth of all pictures, 0.75⁸, ± 4 standard errors."""
    untouched = [seed for seed in range(NUM_SEEDS) if not chosen(seed).any()]
    assert abs(len(untouched) / NUM_SEEDS - 0.75**8) < 4 * np.sqrt(0.1 * 0.9 / NUM_SEEDS)
    assert all((degrade(small(), seed) == small()).all() for seed in untouched)


def test_gaussian_blur_is_of_a_width_up_to_three_pixels() -> None:
    widths = [gaussian_blur(small(), sigma) for sigma in np.arange(0, 3.02, 0.02)]
    assert all(nearest(picture, widths) <= 4 for picture in degraded_by("gaussian", small()))


def test_average_and_median_blur_are_opencvs_of_every_size_that_was_published() -> None:
    averages = [cv2.blur(small(), (size, size)) for size in range(1, 6)]
    medians = [cv2.medianBlur(small(), size) for size in (3, 5, 7)]
    for operation, candidates in (("average", averages), ("median", medians)):
        found = {
            next(i for i, candidate in enumerate(candidates) if np.array_equal(picture, candidate))
            for picture in degraded_by(operation, small())
        }
        assert len(found) == len(candidates)


def test_motion_blur_mixes_a_pixel_with_its_neighbours_along_a_line() -> None:
    """A dot shows the kernel: three by three, nothing gained or lost, the middle never lost."""
    dot = np.zeros((9, 9, 3), np.uint8)
    dot[4, 4] = 240
    for picture in degraded_by("motion", dot):
        assert picture[3:6, 3:6].sum() == picture.sum()
        assert abs(int(picture[..., 0].sum()) - 240) <= 4
        assert picture[4, 4, 0] >= 60


@pytest.mark.parametrize("operation", ["bilateral", "mean shift"])
def test_blur_that_keeps_edges_takes_noise_away_and_leaves_strong_edges(operation: str) -> None:
    step = np.repeat(np.where(np.arange(64) < 32, 20, 240), 3).reshape(1, 64, 3).repeat(16, 0)
    noisy = np.clip(step + np.random.default_rng(0).normal(0, 4, step.shape), 0, 255).astype(np.uint8)
    for picture in degraded_by(operation, noisy, most=10):
        assert picture[:, :24].std() < noisy[:, :24].std()
        assert picture[:, 40:].mean() - picture[:, :24].mean() > 200


def test_superpixels_are_painted_in_the_mean_colour_of_another_and_never_wipe_out_a_picture() -> None:
    """The last segment is never painted, so that a picture of one segment is left as it is."""
    halves = np.zeros((16, 64, 3), np.uint8)
    halves[:, 32:] = 200
    colours = [set(np.unique(picture)) for picture in degraded_by("superpixels", halves)]
    assert all({0, 200} <= of_picture or 200 in of_picture for of_picture in colours)
    assert {0, 200} in colours
    assert {200} in colours
    flat = np.full((16, 64, 3), 90, np.uint8)
    assert all((picture == 90).all() for picture in degraded_by("superpixels", flat))


def test_noise_is_gaussian_of_up_to_a_twentieth_of_white_and_grey_half_of_the_time() -> None:
    flat = np.full((16, 64, 3), 128, np.uint8)
    noises = [picture.astype(int) - 128 for picture in degraded_by("noise", flat)]
    assert max(noise.std() for noise in noises) < 0.05 * 255 * 1.1
    assert max(noise.std() for noise in noises) > 0.04 * 255
    assert all(abs(noise.mean()) < 1 for noise in noises)
    grey = np.mean([(noise == noise[..., :1]).all() for noise in noises])
    assert 0.25 < grey < 0.75


def test_the_order_of_operations_is_drawn_too() -> None:
    """Noise differs from one pixel to the next by 1.13 deviations; where the median comes last it no longer does."""
    flat = np.full((16, 64, 3), 128, np.uint8)
    both = [seed for seed in range(NUM_SEEDS) if chosen(seed)[[2, 7]].all() and chosen(seed).sum() == 2]
    pictures = [degrade(flat, seed).astype(float) for seed in both]
    roughness = [np.abs(np.diff(p, axis=1)).mean() / p.std() for p in pictures if p.std() > 0.5]
    assert sum(rough > 1 for rough in roughness) > len(both) / 5
    assert sum(rough < 0.8 for rough in roughness) > len(both) / 5


def test_the_same_image_and_seed_give_the_same_pixels_in_any_process_and_layout_and_the_image_is_not_changed() -> None:
    planes = np.ascontiguousarray(small().transpose(2, 0, 1))
    planes.setflags(write=False)
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as processes:
        theirs = processes.submit(_degraded, 40).result()
    for seed, other in enumerate(theirs):
        np.testing.assert_array_equal(degrade(planes.transpose(1, 2, 0), seed), other)
        assert (other.shape, other.dtype) == ((16, 64, 3), np.uint8)


def _degraded(count: int) -> list[np.ndarray]:
    return [degrade(small(), seed) for seed in range(count)]


def test_none_gives_a_copy() -> None:
    image = small()
    result = degrade(image, 3, "none")
    np.testing.assert_array_equal(result, image)
    assert not np.shares_memory(result, image)


@pytest.mark.parametrize("sigma", [0.5, 1.0, 2.5])
def test_gaussian_blur_agrees_with_another_implementation(sigma: float) -> None:
    image = small()
    expected = ndimage.gaussian_filter(image.astype(float), (sigma, sigma, 0), mode="mirror", truncate=4)
    # The recipe's kernel holds 90 to 99 % of the weight, scipy's all of it.
    assert np.abs(gaussian_blur(image, sigma) - expected).mean() < 3.0
    np.testing.assert_array_equal(gaussian_blur(image, 0.0), image)


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
