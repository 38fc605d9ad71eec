"""Degradation: what makes the low-resolution side of a pair.

Every function is pure: the same image and seed give the same pixels, on any machine and in any order.
"""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np

from kdltr_core.config import DegradationName
from kdltr_core.data.camera import photograph

# Raise it when a draw of the same seed comes out otherwise, so that packs are made anew.
DEGRADATION_VERSION = 2
PROBABILITY = 0.25
NOISE_LIMIT = 0.05 * 255

# Of ``mixed``, with their probabilities.
MIXED: tuple[DegradationName, ...] = ("camera", "published", "none")
MIXED_PROBABILITIES = (0.5, 0.25, 0.25)

# OpenCV's own threads cost more than they bring on 1,024 pixels, and do not survive a fork.
cv2.setNumThreads(1)


def make_low_res(high_res: np.ndarray, low_res: np.ndarray, seed: int, name: DegradationName) -> np.ndarray:
    """One random draw of low_res: ``camera`` photographs high_res anew, the others make the resized picture worse.

    Args:
        high_res: (32, 128, 3) uint8, RGB.
        low_res: (16, 64, 3) uint8, the same picture resized. Neither is changed.
        seed: not negative.
        name: ``mixed`` draws one of ``MIXED`` by the seed.

    Returns: (16, 64, 3) uint8.
    """
    if name == "mixed":
        name = MIXED[np.random.default_rng([seed, 1]).choice(len(MIXED), p=MIXED_PROBABILITIES)]
    return photograph(high_res, seed) if name == "camera" else degrade(low_res, seed, name)


def degrade(image: np.ndarray, seed: int, name: DegradationName = "published") -> np.ndarray:
    """One random draw of the named degradation.

    ``published`` (Guo et al. 2023, supplement F): each of eight operations with probability 0.25, in random order:
    Gaussian blur σ∈[0, 3], average blur k∈[1, 5], median blur k∈[3, 7], bilateral blur, motion blur k = 3, mean-shift
    blur, superpixels (1–7 segments, each replaced with p∈[0.1, 0.5]), additive Gaussian noise σ∈[0, 0.05·255]; each
    as imgaug 0.4, the library named there, carries it out. ``interlaced``: a subject that moves sideways before an
    interlaced camera: every second row, taken a field later, is displaced by two pixels to either side; then Gaussian
    blur σ∈[0, 0.6] and Gaussian noise σ∈[0, 10]. ``none``: the image as it is.

    Args:
        image: (H, W, 3) uint8, RGB. It is not changed.
        seed: not negative.

    Returns: (H, W, 3) uint8.
    """
    if name == "none":
        return image.copy()
    rng = np.random.default_rng(seed)
    if name == "interlaced":
        return _interlaced(image, rng)
    assert name == "published", name
    chosen = rng.random(len(PUBLISHED)) < PROBABILITY
    image = image.copy()
    for i in rng.permutation(len(PUBLISHED)):
        if chosen[i]:
            image = PUBLISHED[i](image, rng)
    return image


def gaussian_blur(image: np.ndarray, sigma: float) -> np.ndarray:
    """Gaussian blur of (H, W, 3) uint8 with standard deviation ``sigma`` in pixels; 0 gives a copy."""
    if sigma < 1e-3:
        return image.copy()
    size = gaussian_size(sigma)
    return cv2.GaussianBlur(image, (size, size), sigmaX=sigma, borderType=cv2.BORDER_REFLECT_101)


def gaussian_size(sigma: float) -> int:
    """Width of a kernel: 99 % of the weight, at least 5 pixels and odd, as in imgaug, which made the benchmarks."""
    return max(int(3.3 * sigma), 5) | 1


def _interlaced(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    image = image.copy()
    later = image[1::2]
    edges = np.pad(later, ((0, 0), (2, 2), (0, 0)), mode="edge")
    image[1::2] = edges[:, :-4] if rng.random() < 0.5 else edges[:, 4:]
    image = gaussian_blur(image, rng.uniform(0.0, 0.6))
    return _add(image, rng.normal(0.0, rng.uniform(0.0, 10.0), image.shape))


def _add(image: np.ndarray, values: np.ndarray) -> np.ndarray:
    return np.clip(image + np.round(values), 0, 255).astype(np.uint8)


def motion_kernel(towards: float, angle: float) -> np.ndarray:
    """A vertical streak of three pixels, brighter at one end, turned by any angle in degrees: (3, 3), its sum is 1."""
    kernel: np.ndarray = np.zeros((3, 3), np.float32)
    kernel[:, 1] = np.linspace(towards, 1.0 - towards, 3)
    turn = cv2.getRotationMatrix2D((1.0, 1.0), angle, 1.0)
    kernel = cv2.warpAffine(kernel, turn, (3, 3), flags=cv2.INTER_LINEAR)
    return kernel / kernel.sum()


def _mean_shift(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    # In place, as the library of the published benchmarks calls it. OpenCV then overwrites the fine level of its
    # pyramid with the enlarged coarse one before it filters it, and so blurs more than into another array.
    image = image.copy()
    return cv2.pyrMeanShiftFiltering(image, sp=rng.uniform(5.0, 40.0), sr=rng.uniform(5.0, 40.0), dst=image)


def _superpixels(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    num_segments = int(rng.integers(1, 8))
    replaced = rng.random(num_segments) < rng.uniform(0.1, 0.5)
    if not replaced.any():
        return image
    # Not at the top: it brings SciPy along, which most runs never ask for and every worker would wait for.
    from skimage.segmentation import slic

    segments = slic(image, n_segments=num_segments, compactness=10.0, start_label=0)
    result = image.copy()
    # A segment is painted with the mean colour of the next one, and the last never: what that library does since slic
    # counts its segments from 1, and what is found in benchmarks made with it. One segment alone is left as it is.
    for segment in range(1, segments.max() + 1):
        if replaced[segment % num_segments]:
            result[segments == segment - 1] = np.round(image[segments == segment].mean(axis=0))
    return result


def _noise(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    sigma = rng.uniform(0.0, NOISE_LIMIT)
    num_channels = 3 if rng.random() < 0.5 else 1
    return _add(image, rng.normal(0.0, sigma, (*image.shape[:2], num_channels)))


PUBLISHED: tuple[Callable[[np.ndarray, np.random.Generator], np.ndarray], ...] = (
    lambda image, rng: gaussian_blur(image, rng.uniform(0.0, 3.0)),
    lambda image, rng: cv2.blur(image, (int(rng.integers(1, 6)),) * 2),
    # Drawn from 3…7 and made odd upwards: 3, 5 and 7 with probability 1/5, 2/5 and 2/5.
    lambda image, rng: cv2.medianBlur(image, int(rng.integers(3, 8)) | 1),
    lambda image, rng: cv2.bilateralFilter(
        image, int(rng.integers(3, 10)), rng.uniform(10.0, 250.0), rng.uniform(10.0, 250.0)
    ),
    lambda image, rng: cv2.filter2D(image, -1, motion_kernel(rng.uniform(), rng.uniform(0.0, 360.0))),
    _mean_shift,
    _superpixels,
    _noise,
)
