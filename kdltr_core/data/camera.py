"""The ``camera`` degradation: what a camera does to text that is small in its picture."""

from __future__ import annotations

import cv2
import numpy as np

from kdltr_core.config import LOW_RES_SIZE

# Set by measurement: what this makes of the high_res of TextZoom's train2 lies over its low_res in gradient energy,
# noise, contrast, spectrum and colour (benchmarks/camera_distance.py). Logarithms are natural, lengths in pixels of
# high_res unless they say otherwise.
BLUR_LOG_MEAN, BLUR_LOG_DEVIATION = 0.45, 0.65
ANISOTROPY_LOG_MEAN, ANISOTROPY_LOG_DEVIATION = 0.4, 0.25
DEFOCUS_PROBABILITY, DEFOCUS_RADIUS, WIDEST_DISK = 0.2, 1.9, 4.0
MOTION_PROBABILITY, LONGEST_MOTION = 0.2, 3
NATIVE_ROWS = (8.0, 15.0)
ASPECT_LOG_MEAN, ASPECT_LOG_DEVIATION = -0.2, 0.2
LEAST_CONTRAST, COLOUR_CAST, BRIGHTNESS = 0.85, 0.15, 10.0
CHROMA_SHIFT_PROBABILITY, LONGEST_CHROMA_SHIFT = 0.5, 0.6
CHROMA_BLUR_PROBABILITY, CHROMA_BLUR = 0.6, (0.5, 1.5)
NOISE_LIMIT, READ_NOISE, SHOT_NOISE = 2.0, 0.3, 0.5
JPEG_PROBABILITY, JPEG_QUALITY = 0.6, (50, 95)
# Much small text is only small: of so many pictures every strength is below three tenths of its draw.
EASY_PROBABILITY, EASY_LIMIT = 0.15, 0.3

LUMA = (0.299, 0.587, 0.114)

_KERNELS = (cv2.INTER_AREA, cv2.INTER_LINEAR, cv2.INTER_CUBIC)
_EDGE = cv2.BORDER_REPLICATE


def photograph(image: np.ndarray, seed: int) -> np.ndarray:
    """A high-resolution word as a camera sees it from farther away.

    Optics (Gaussian blur of two widths, or defocus), a little motion, a sensor of few rows under a sub-pixel shift and
    one of three kernels, then in random order: contrast and colour cast, misaligned and blurred colour, noise that
    grows with the signal. JPEG comes last, and the enlarging to 16×64 that every picture goes through.

    Args:
        image: (32, 128, 3) uint8, RGB. It is not changed.
        seed: not negative; the same gives the same pixels.

    Returns: (16, 64, 3) uint8.
    """
    rng = np.random.default_rng(seed)
    strength = EASY_LIMIT * rng.random() if rng.random() < EASY_PROBABILITY else 1.0
    pixels = _through_the_lens(image.astype(np.float32), rng, strength)
    pixels = _on_the_sensor(pixels, rng, strength)
    for i in rng.permutation(len(_AFTER_THE_SENSOR)):
        pixels = _AFTER_THE_SENSOR[i](pixels, rng, strength)
    seen = np.minimum(np.maximum(pixels + 0.5, 0), 255).astype(np.uint8)
    if rng.random() < JPEG_PROBABILITY * strength:
        seen = _jpeg(seen, int(rng.integers(JPEG_QUALITY[0], JPEG_QUALITY[1] + 1)))
    height, width = LOW_RES_SIZE
    return seen if seen.shape[:2] == LOW_RES_SIZE else cv2.resize(seen, (width, height), interpolation=cv2.INTER_CUBIC)


def _through_the_lens(pixels: np.ndarray, rng: np.random.Generator, strength: float) -> np.ndarray:
    width = strength * np.exp(rng.normal(BLUR_LOG_MEAN, BLUR_LOG_DEVIATION))
    stretch = np.exp(rng.normal(ANISOTROPY_LOG_MEAN, ANISOTROPY_LOG_DEVIATION))
    if rng.random() < DEFOCUS_PROBABILITY:
        pixels = cv2.filter2D(pixels, -1, _disk(min(DEFOCUS_RADIUS * width, WIDEST_DISK)), borderType=_EDGE)
    elif width > 0.1:
        across, along = width * stretch, width / stretch
        # Past 2.2 deviations there is next to nothing, and a kernel's cost is its width.
        size = (2 * int(2.2 * across) + 3, 2 * int(2.2 * along) + 3)
        pixels = cv2.GaussianBlur(pixels, size, sigmaX=across, sigmaY=along, borderType=_EDGE)
    if rng.random() < MOTION_PROBABILITY * strength:
        kernel = streak(int(rng.integers(1, LONGEST_MOTION + 1)), rng.uniform(0, np.pi))
        pixels = cv2.filter2D(pixels, -1, kernel, borderType=_EDGE)
    return pixels


def _on_the_sensor(pixels: np.ndarray, rng: np.random.Generator, strength: float) -> np.ndarray:
    """(rows, columns, 3) of the sensor, some 8 to 16 rows."""
    height, width = pixels.shape[:2]
    rows = round(LOW_RES_SIZE[0] - strength * (LOW_RES_SIZE[0] - rng.uniform(*NATIVE_ROWS)))
    aspect = np.exp(strength * rng.normal(ASPECT_LOG_MEAN, ASPECT_LOG_DEVIATION))
    columns = int(np.clip(round(4 * rows * aspect), 8, 2 * LOW_RES_SIZE[1]))
    down, right = strength * rng.uniform(-0.5, 0.5, 2)
    kernel = _KERNELS[rng.integers(len(_KERNELS))]
    if kernel == cv2.INTER_AREA:
        moved = _moved(pixels, right * width / columns, down * height / rows)
        return cv2.resize(moved, (columns, rows), interpolation=kernel)
    # Centre to centre, as resize does it, and the shift in the same breath.
    across, along = width / columns, height / rows
    grid = np.array([[across, 0, across * (0.5 + right) - 0.5], [0, along, along * (0.5 + down) - 0.5]], np.float32)
    return cv2.warpAffine(pixels, grid, (columns, rows), flags=kernel | cv2.WARP_INVERSE_MAP, borderMode=_EDGE)


def _lit(pixels: np.ndarray, rng: np.random.Generator, strength: float) -> np.ndarray:
    contrast = 1 - strength * rng.uniform(0, 1 - LEAST_CONTRAST)
    cast = 1 + strength * COLOUR_CAST * rng.uniform(-0.5, 0.5, 3)
    mean = np.array(cv2.mean(pixels)[:3], np.float32)
    return pixels * np.float32(contrast) + (mean * (cast - contrast) + strength * BRIGHTNESS * rng.uniform(-0.5, 0.5))


def _coloured(pixels: np.ndarray, rng: np.random.Generator, strength: float) -> np.ndarray:
    if rng.random() < CHROMA_SHIFT_PROBABILITY * strength:
        right, down = rng.uniform(-LONGEST_CHROMA_SHIFT, LONGEST_CHROMA_SHIFT, 2)
        red, green, blue = cv2.split(pixels)
        pixels = cv2.merge([_moved(red, right, down), green, _moved(blue, -right, -down)])
    if rng.random() < CHROMA_BLUR_PROBABILITY * strength:
        luma = (pixels @ np.array(LUMA, np.float32))[..., None]
        pixels = luma + cv2.GaussianBlur(pixels - luma, (0, 0), rng.uniform(*CHROMA_BLUR), borderType=_EDGE)
    return pixels


def _noisy(pixels: np.ndarray, rng: np.random.Generator, strength: float) -> np.ndarray:
    variance = READ_NOISE + (SHOT_NOISE / 128) * np.maximum(pixels, 0)
    noise = rng.standard_normal(pixels.shape, dtype=np.float32) * np.sqrt(variance)
    return pixels + np.float32(strength * NOISE_LIMIT * rng.random()) * noise


_AFTER_THE_SENSOR = (_lit, _coloured, _noisy)


def _moved(pixels: np.ndarray, right: float, down: float) -> np.ndarray:
    height, width = pixels.shape[:2]
    shift = np.array([[1, 0, right], [0, 1, down]], np.float32)
    return cv2.warpAffine(pixels, shift, (width, height), flags=cv2.INTER_LINEAR, borderMode=_EDGE)


def _disk(radius: float) -> np.ndarray:
    reach = int(np.ceil(radius))
    steps = np.arange(-reach, reach + 1, dtype=np.float32)
    kernel = np.minimum(np.maximum(radius + 0.5 - np.hypot(steps[:, None], steps), 0), 1)
    return kernel / kernel.sum()


def streak(reach: int, angle: float) -> np.ndarray:
    """A line through the middle of a kernel, (2 · reach + 1, 2 · reach + 1), its sum is 1."""
    kernel = np.zeros((2 * reach + 1, 2 * reach + 1), np.float32)
    right, down = round(reach * np.cos(angle)), round(reach * np.sin(angle))
    cv2.line(kernel, (reach - right, reach - down), (reach + right, reach + down), 1.0)
    return kernel / kernel.sum()


def _jpeg(image: np.ndarray, quality: int) -> np.ndarray:
    encoded = cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
    decoded = cv2.imdecode(encoded, cv2.IMREAD_COLOR)
    assert decoded is not None
    return decoded[..., ::-1]
