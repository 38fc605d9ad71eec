"""Quadrilaterals of text in a picture: their order, their upright images, and pieces of them."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

Corners = np.ndarray
"""(4, 2) float32: x, y of the corners in pixels, clockwise from the one where the text begins"""

# What is so much higher than wide is taken for text that runs upwards.
UPWARDS_ASPECT = 1.5
# How far the middles of two boxes of a line may lie apart in height, as a share of the thinner one's thickness.
SAME_LINE = 0.5


def in_reading_order(boxes: Sequence[Corners]) -> list[Corners]:
    """Lines from above, and the boxes of a line from the left.

    A box belongs to the line whose last box has its middle at about the same height.
    """
    lines: list[list[Corners]] = []
    for box in sorted(boxes, key=_middle):
        line = next((line for line in lines if _beside(line[-1], box)), None)
        if line is None:
            lines.append([box])
        else:
            line.append(box)
    return [box for line in lines for box in sorted(line, key=lambda box: float(box[:, 0].mean()))]


def begun(box: Corners) -> Corners:
    """From the corner where the text begins: of text that runs upwards the lower left one."""
    width, height = _lengths(box)
    return np.roll(box, 1, axis=0) if height >= UPWARDS_ASPECT * width else box


def rectify(picture: np.ndarray, box: Corners) -> np.ndarray:
    """The text of a box as if seen from the front, running to the right: (h, w, 3) uint8."""
    width, height = (max(1, round(length)) for length in _lengths(box))
    # Corners lie between pixels, and OpenCV counts from the middle of the first one.
    half = np.float32(0.5)
    return cv2.warpPerspective(
        picture,
        cv2.getPerspectiveTransform(box - half, _upright(width, height) - half),
        (width, height),
        flags=cv2.INTER_CUBIC,
        borderMode=cv2.BORDER_REPLICATE,
    )


def cut_between(
    box: Corners, image: np.ndarray, spans: Sequence[tuple[float, float]]
) -> list[tuple[Corners, np.ndarray]]:
    """Pieces of a rectified box, and where they are in the picture.

    Args:
        image: of the box, as ``rectify`` gives it.
        spans: from where to where, as shares of its width; one that is narrower than a pixel is left out.
    """
    height, width = image.shape[:2]
    back = cv2.getPerspectiveTransform(_upright(width, height), box)
    pieces = []
    for start, end in spans:
        left, right = max(0, int(np.floor(start * width))), min(width, int(np.ceil(end * width)))
        if right > left:
            corners = np.array([[[left, 0], [right, 0], [right, height], [left, height]]], np.float32)
            pieces.append((cv2.perspectiveTransform(corners, back)[0], image[:, left:right]))
    return pieces


def _lengths(box: Corners) -> tuple[float, float]:
    """The longer one of each two sides that lie opposite."""
    sides = np.linalg.norm(np.roll(box, -1, axis=0) - box, axis=1)
    return float(max(sides[0], sides[2])), float(max(sides[1], sides[3]))


def _upright(width: int, height: int) -> Corners:
    return np.array([[0, 0], [width, 0], [width, height], [0, height]], np.float32)


def _middle(box: Corners) -> float:
    return float(box[:, 1].mean())


def _beside(one: Corners, other: Corners) -> bool:
    return abs(_middle(one) - _middle(other)) < SAME_LINE * min(*_lengths(one), *_lengths(other))
