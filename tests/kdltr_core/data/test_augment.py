"""Light augmentation changes both resolutions alike, by the seed and by nothing else."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from kdltr_core.config import RunConfig
from kdltr_core.data.augment import augment_pair


def smooth_picture(seed: int) -> np.ndarray:
    coarse = np.random.default_rng(seed).integers(60, 196, (4, 16, 3), dtype=np.uint8)
    return cv2.resize(coarse, (128, 32), interpolation=cv2.INTER_CUBIC)


def halved(image: np.ndarray) -> np.ndarray:
    return cv2.resize(image, (64, 16), interpolation=cv2.INTER_AREA)


def test_the_low_resolution_picture_is_changed_as_the_high_resolution_one():
    for seed in range(20):
        high = smooth_picture(seed)
        changed, low = augment_pair(high, halved(high), seed)
        assert np.abs(changed.astype(int) - high).mean() > 2
        inner = np.s_[2:-2, 4:-4]
        difference = np.abs(halved(changed).astype(float)[inner] - low[inner])
        assert difference.mean() < 2.0
        other = augment_pair(high, halved(high), seed + 1)[1]
        assert np.abs(halved(changed).astype(float)[inner] - other[inner]).mean() > difference.mean()


def test_the_same_seed_gives_the_same_pixels_and_leaves_the_source_alone():
    high = smooth_picture(0)
    before = high.copy()
    first, second = augment_pair(high, halved(high), 5), augment_pair(high, halved(high), 5)
    assert all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))
    assert np.array_equal(high, before)


def test_augmented_images_have_no_kept_lessons():
    with pytest.raises(ValueError, match="give one of the two"):
        RunConfig().override({"data.teacher_cache": "on", "data.train_augmentation": "light"})
