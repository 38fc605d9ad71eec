"""The camera degradation: what may be known of it without a camera."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from kdltr_core.data.camera import photograph
from kdltr_core.data.degrade import degrade, make_low_res
from kdltr_core.data.images import resize

# Strokes of four columns, as letters have them.
WORD = np.full((32, 128, 3), 210, np.uint8)
WORD[6:26, np.arange(128) % 10 < 4] = (40, 30, 60)


def edges(picture: np.ndarray) -> float:
    return float(np.abs(np.diff(picture.astype(float), axis=1)).mean())


def test_a_seed_gives_the_same_pixels_and_another_gives_others() -> None:
    first = photograph(WORD, 7)
    assert first.shape == (16, 64, 3)
    assert first.dtype == np.uint8
    np.testing.assert_array_equal(first, photograph(WORD.copy(), 7))
    assert (first != photograph(WORD, 8)).any()


def test_the_picture_that_is_photographed_stays_as_it_is() -> None:
    before = WORD.copy()
    for seed in range(20):
        photograph(WORD, seed)
    np.testing.assert_array_equal(WORD, before)


def test_most_pictures_lose_their_edges_and_some_are_only_small() -> None:
    small = resize(Image.fromarray(WORD), (16, 64))
    kept = np.array([edges(photograph(WORD, seed)) / edges(small) for seed in range(400)])
    assert np.mean(kept < 0.8) > 0.5
    assert np.mean(kept > 0.9) > 0.05


def test_a_grey_wall_stays_a_wall_but_for_noise_and_cast() -> None:
    wall = np.full((32, 128, 3), 120, np.uint8)
    pictures = np.stack([photograph(wall, seed) for seed in range(200)]).astype(float)
    assert pictures.std((1, 2)).max() < 8
    assert np.abs(pictures.mean((1, 2)) - 120).max() < 120 * 0.075 + 5 + 2
    assert np.abs(pictures.mean() - 120) < 1


def test_noise_grows_with_the_signal() -> None:
    dark, light = (
        np.mean(
            [photograph(np.full((32, 128, 3), grey, np.uint8), seed).astype(float).std((0, 1)) for seed in range(200)]
        )
        for grey in (30, 200)
    )
    assert light > 1.3 * dark


def test_mixed_is_camera_published_and_clean_for_half_a_quarter_and_a_quarter() -> None:
    small = resize(Image.fromarray(WORD), (16, 64))
    kinds = {"camera": 0, "published": 0, "none": 0}
    for seed in range(400):
        drawn = make_low_res(WORD, small, seed, "mixed")
        expected = {"none": small, "camera": photograph(WORD, seed), "published": degrade(small, seed)}
        kinds[next(kind for kind, picture in expected.items() if np.array_equal(picture, drawn))] += 1
    # A tenth of the published draws change nothing and count as clean here: 0.75 to the power of eight.
    assert kinds["camera"] == pytest.approx(200, abs=40)
    assert kinds["published"] == pytest.approx(90, abs=36)
    assert kinds["none"] == pytest.approx(110, abs=36)
