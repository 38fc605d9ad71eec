"""Light augmentation: the same word, held and lit a little otherwise, in both resolutions alike."""

from __future__ import annotations

import cv2
import numpy as np

MAX_DEGREES, MAX_SHEAR, MAX_STRETCH, MAX_SHIFT = 4.0, 0.1, 0.06, 0.03
MAX_CONTRAST, MAX_BRIGHTNESS, MAX_TINT = 0.25, 25.0, 0.08


def augment_pair(high_res: np.ndarray, low_res: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """One random draw: turned by up to 4°, sheared by 0.1, stretched by 6 %, shifted by 3 % of each side; contrast
    changed by up to 25 %, brightness by 25 grey levels, every channel by 8 %. What comes into view repeats the border.

    Args:
        high_res, low_res: (H, W, 3) and (h, w, 3) uint8 of one aspect ratio. They are not changed.
        seed: not negative.

    Returns: both, changed alike.
    """
    rng = np.random.default_rng([seed, 1])
    angle = np.deg2rad(rng.uniform(-MAX_DEGREES, MAX_DEGREES))
    shear = rng.uniform(-MAX_SHEAR, MAX_SHEAR)
    stretch = 1 + rng.uniform(-MAX_STRETCH, MAX_STRETCH, 2)
    shift = rng.uniform(-MAX_SHIFT, MAX_SHIFT, 2)
    gain = (1 + rng.uniform(-MAX_CONTRAST, MAX_CONTRAST)) * (1 + rng.uniform(-MAX_TINT, MAX_TINT, 3))
    offset = rng.uniform(-MAX_BRIGHTNESS, MAX_BRIGHTNESS)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    matrix = turn @ np.array([[1.0, shear], [0.0, 1.0]]) @ np.diag(stretch)
    return _changed(high_res, matrix, shift, gain, offset), _changed(low_res, matrix, shift, gain, offset)


def _changed(image: np.ndarray, matrix: np.ndarray, shift: np.ndarray, gain: np.ndarray, offset: float) -> np.ndarray:
    height, width = image.shape[:2]
    middle = np.array([(width - 1) / 2, (height - 1) / 2])
    moved = middle + shift * (width, height) - matrix @ middle
    affine = np.hstack([matrix, moved[:, None]])
    turned = cv2.warpAffine(image, affine, (width, height), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    lit = (turned.astype(np.float32) - 128) * gain.astype(np.float32) + 128 + np.float32(offset)
    return np.clip(np.round(lit), 0, 255).astype(np.uint8)
