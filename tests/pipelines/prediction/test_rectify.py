"""Boxes of text: read in order, made upright, and cut into words without losing where they were."""

from __future__ import annotations

import numpy as np
import pytest

from pipelines.prediction.rectify import begun, cut_between, in_reading_order, rectify


def box(left: float, top: float, right: float, bottom: float) -> np.ndarray:
    return np.array([[left, top], [right, top], [right, bottom], [left, bottom]], np.float32)


def turned(corners: np.ndarray, degrees: float, about: tuple[float, float] = (100, 100)) -> np.ndarray:
    """Clockwise, as y runs downwards."""
    angle = np.deg2rad(degrees)
    turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    return ((corners - about) @ turn + about).astype(np.float32)


READ = [
    box(10, 10, 90, 30), box(100, 14, 190, 34), box(200, 8, 260, 28),  # a line that is not quite level
    box(12, 40, 80, 60), box(90, 41, 150, 61),
    box(10, 70, 300, 130),  # large print
    box(320, 95, 360, 105),  # small print beside it
]  # fmt: skip


@pytest.mark.parametrize("seed", range(5))
def test_boxes_are_read_line_by_line_from_the_left(seed: int) -> None:
    shuffled = [READ[i] for i in np.random.default_rng(seed).permutation(len(READ))]
    for found, expected in zip(in_reading_order(shuffled), READ, strict=True):
        np.testing.assert_array_equal(found, expected)
    assert in_reading_order([]) == []


def test_an_upright_box_is_the_picture_in_it() -> None:
    picture = np.random.default_rng(0).integers(0, 256, (60, 90, 3), dtype=np.uint8)
    np.testing.assert_array_equal(rectify(picture, box(20, 10, 70, 35)), picture[10:35, 20:70])


@pytest.mark.parametrize("degrees", [0, 15, -30, 40])
def test_slanted_text_is_made_level(degrees: float) -> None:
    """Left half red, right half blue, drawn by whether a pixel turned back lies in either half."""
    upright = box(60, 85, 140, 115)
    y, x = np.mgrid[:200, :200]
    back = turned(np.stack([x, y], -1).reshape(-1, 2), -degrees)
    inside = ((back >= (60, 85)) & (back <= (140, 115))).all(1).reshape(200, 200)
    picture = np.zeros((200, 200, 3), np.uint8)
    picture[inside & (back[:, 0] < 100).reshape(200, 200)] = (255, 0, 0)
    picture[inside & (back[:, 0] >= 100).reshape(200, 200)] = (0, 0, 255)
    level = rectify(picture, turned(upright, degrees)).astype(int)
    assert level.shape == (30, 80, 3)
    assert np.abs(level[3:-3, 3:37] - (255, 0, 0)).mean() < 2
    assert np.abs(level[3:-3, 43:-3] - (0, 0, 255)).mean() < 2


def test_text_that_runs_upwards_begins_at_the_lower_left() -> None:
    upwards = box(10, 10, 20, 50)
    np.testing.assert_array_equal(begun(upwards), [[10, 50], [10, 10], [20, 10], [20, 50]])
    picture = np.zeros((60, 30, 3), np.uint8)
    picture[30:50] = 255  # the first half of the word
    seen = rectify(picture, begun(upwards))
    assert seen.shape == (10, 40, 3)
    assert seen[:, :18].min() == 255
    assert seen[:, 22:].max() == 0


@pytest.mark.parametrize("corners", [box(5, 5, 14, 10), box(5, 5, 10, 10), box(5, 5, 10, 12)])
def test_text_that_is_wide_or_square_begins_at_the_upper_left(corners: np.ndarray) -> None:
    np.testing.assert_array_equal(begun(corners), corners)


@pytest.mark.parametrize("degrees", [0, 20, -35])
def test_pieces_lie_where_they_were_cut_from(degrees: float) -> None:
    whole = turned(box(60, 90, 140, 110), degrees)
    image = np.arange(80, dtype=np.uint8)[None, :, None].repeat(20, 0).repeat(3, 2)
    pieces = cut_between(whole, image, [(0.0, 0.25), (0.5, 1.0), (0.3, 0.3)])
    expected = [turned(box(60, 90, 80, 110), degrees), turned(box(100, 90, 140, 110), degrees)]
    assert [piece.shape[1] for _, piece in pieces] == [20, 40]
    assert [int(piece[0, 0, 0]) for _, piece in pieces] == [0, 40]
    for (corners, _), truth in zip(pieces, expected, strict=True):
        np.testing.assert_allclose(corners, truth, atol=1e-3)
