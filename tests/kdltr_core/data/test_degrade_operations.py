"""The eight operations of the published degradation, one by one: what is drawn from where, and OpenCV's, scikit-image's
or numpy's own result for what was drawn."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
import pytest
from skimage.segmentation import slic

from kdltr_core.data import degrade as module
from tests.kdltr_core.data.sets import drawn

Operation = Callable[[np.ndarray, Any], np.ndarray]


class Dice:
    """A generator whose throws are known; remembers between which bounds it was asked to throw."""

    def __init__(self, *throws: Any) -> None:
        self._throws, self.bounds = list(throws), []

    def uniform(self, low: float = 0.0, high: float = 1.0) -> float:
        self.bounds.append((low, high))
        return self._throws.pop(0)

    def integers(self, low: int, high: int) -> int:
        self.bounds.append((low, high - 1))
        return self._throws.pop(0)

    def random(self, size: int | None = None) -> Any:
        return self._throws.pop(0)

    def normal(self, mean: float, sigma: float, shape: tuple[int, ...]) -> np.ndarray:
        self.bounds.append((mean, sigma, shape))
        return self._throws.pop(0)


@pytest.fixture
def image() -> np.ndarray:
    return drawn(4, 64, 16)


def run(operation: Operation, image: np.ndarray, *throws: Any) -> tuple[np.ndarray, list[Any]]:
    """The result, and the bounds of all throws; the image itself is left alone."""
    dice, before = Dice(*throws), image.copy()
    result = operation(image, dice)
    np.testing.assert_array_equal(image, before)
    assert not dice._throws
    return result, dice.bounds


def test_the_eight_are_these() -> None:
    names = ("_gaussian", "_average", "_median", "_bilateral", "_motion", "_mean_shift", "_superpixels", "_noise")
    assert tuple(getattr(module, name) for name in names) == module._PUBLISHED


@pytest.mark.parametrize(("sigma", "size"), [(0.4, 5), (1.2, 5), (2.0, 7), (2.9, 9)])
def test_gaussian_blur(image: np.ndarray, sigma: float, size: int) -> None:
    result, bounds = run(module._gaussian, image, sigma)
    assert bounds == [(0.0, 3.0)]
    kernel = cv2.getGaussianKernel(size, sigma)
    expected = cv2.sepFilter2D(image.astype(np.float32), -1, kernel, kernel, borderType=cv2.BORDER_REFLECT_101)
    # OpenCV's own blur of bytes works in fixed point.
    assert np.abs(result - expected).max() <= 1.0


@pytest.mark.parametrize("size", [1, 2, 5])
def test_average_blur(image: np.ndarray, size: int) -> None:
    result, bounds = run(module._average, image, size)
    assert bounds == [(1, 5)]
    np.testing.assert_array_equal(result, cv2.boxFilter(image, -1, (size, size), normalize=True))


@pytest.mark.parametrize(("drawn_size", "size"), [(3, 3), (4, 5), (5, 5), (6, 7), (7, 7)])
def test_median_blur(image: np.ndarray, drawn_size: int, size: int) -> None:
    result, bounds = run(module._median, image, drawn_size)
    assert bounds == [(3, 7)]
    half = size // 2
    padded = np.pad(image, ((half, half), (half, half), (0, 0)), mode="edge")
    windows = np.lib.stride_tricks.sliding_window_view(padded, (size, size), axis=(0, 1))
    np.testing.assert_array_equal(result, np.median(windows, axis=(-2, -1)))
    np.testing.assert_array_equal(result, cv2.medianBlur(image, size))


def test_bilateral_blur(image: np.ndarray) -> None:
    result, bounds = run(module._bilateral, image, 7, 90.0, 30.0)
    assert bounds == [(3, 9), (10.0, 250.0), (10.0, 250.0)]
    np.testing.assert_array_equal(result, cv2.bilateralFilter(image, 7, sigmaColor=90.0, sigmaSpace=30.0))


@pytest.mark.parametrize(
    ("towards", "angle", "kernel"),
    [
        (0.5, 0.0, [[0, 1, 0], [0, 1, 0], [0, 1, 0]]),
        (0.2, 0.0, [[0, 0.4, 0], [0, 1.0, 0], [0, 1.6, 0]]),
        (0.5, 90.0, [[0, 0, 0], [1, 1, 1], [0, 0, 0]]),
        (1.0, 180.0, [[0, 0, 0], [0, 1, 0], [0, 2, 0]]),
    ],
)
def test_motion_blur(image: np.ndarray, towards: float, angle: float, kernel: list[list[float]]) -> None:
    result, bounds = run(module._motion, image, towards, angle)
    assert bounds == [(0.0, 1.0), (0.0, 360.0)]
    expected = cv2.filter2D(image.astype(np.float32), -1, np.array(kernel, np.float32) / np.sum(kernel))
    assert np.abs(result - expected).max() <= 1.0


def test_mean_shift_blur(image: np.ndarray) -> None:
    result, bounds = run(module._mean_shift, image, 12.0, 25.0)
    assert bounds == [(5.0, 40.0), (5.0, 40.0)]
    expected = image.copy()
    cv2.pyrMeanShiftFiltering(expected, 12.0, 25.0, expected)  # in place, as the recipe's library calls it
    np.testing.assert_array_equal(result, expected)


def test_superpixels(image: np.ndarray) -> None:
    """All are replaced: every segment but the last gets the mean colour of the next."""
    result, bounds = run(module._superpixels, image, 5, np.zeros(5), 0.3)
    assert bounds == [(1, 7), (0.1, 0.5)]
    segments = slic(image, n_segments=5, compactness=10.0, start_label=1)
    last = segments.max()
    assert last > 1
    for number in range(1, last):
        colour = image[segments == number + 1].mean(axis=0)
        assert np.abs(result[segments == number] - colour).max() <= 0.5
    np.testing.assert_array_equal(result[segments == last], image[segments == last])


def test_superpixels_that_are_not_replaced_are_left_as_they_are(image: np.ndarray) -> None:
    result, _ = run(module._superpixels, image, 5, np.ones(5), 0.3)
    np.testing.assert_array_equal(result, image)


@pytest.mark.parametrize(("coin", "num_channels"), [(0.4, 3), (0.6, 1)])
def test_additive_noise(image: np.ndarray, coin: float, num_channels: int) -> None:
    values = np.random.default_rng(0).normal(0, 60, (16, 64, num_channels))
    result, bounds = run(module._noise, image, 9.0, coin, values)
    assert bounds == [(0.0, pytest.approx(0.05 * 255)), (0.0, 9.0, (16, 64, num_channels))]
    exact = image.astype(float) + values
    assert np.abs(result - np.clip(exact, 0, 255)).max() <= 0.5
    assert (exact > 255.5).any()
