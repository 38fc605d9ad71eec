"""Words in whole pictures, found by RapidOCR's detector, cut out, and turned to run to the right.

The only file that knows that detector, and the geometry of what it finds.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import cv2
import numpy as np

Corners = np.ndarray
"""(4, 2) float32: x, y of the corners in pixels, clockwise from the one where the text begins"""

# RapidOCR enlarges what is low, a picture or a line, and takes memory by the pixels that this makes: bounded here.
MAX_SIDE = 2000
MIN_SIDE = 32
MAX_ASPECT = 4
MAX_LINE_ASPECT = 40
# Of the mean distance of two characters: how far a word reaches beyond the middle of its first and last one.
MARGIN = 0.8
# What is so much higher than wide is taken for text that runs upwards.
UPWARDS_ASPECT = 1.5
# How far the middles of two boxes of a line may lie apart in height, as a fraction of the thinner one's thickness.
SAME_LINE = 0.5


def open_rapidocr(num_threads: int, changes: Mapping[str, Any] | None = None) -> Any:
    """RapidOCR's engine, silent, on ONNX Runtime; its models come inside its package.

    Args:
        changes: of its parameters.

    Raises: ValueError if the package is not installed.
    """
    if importlib.util.find_spec("rapidocr") is None:
        raise ValueError("this needs RapidOCR: pip install 'kdltr[detect]'")
    from rapidocr import RapidOCR

    threads = {f"EngineConfig.onnxruntime.{kind}_op_num_threads": num_threads for kind in ("intra", "inter")}
    return RapidOCR(params={"Global.log_level": "error", **threads, **(changes or {})})


class WordDetector:
    """Finds text of any slant up to a quarter turn. Threads may share one.

    RapidOCR's detector finds lines. Its recognizer says where each character of a line stands, and they are cut at the
    spaces that it reads; where it reads none, the line is one word. Text upside down is not turned.

    Args:
        num_threads: of ONNX Runtime.

    Raises: ValueError if the package is not installed.
    """

    def __init__(self, num_threads: int) -> None:
        switches = ("use_cls", "use_rec", "use_preprocess_img", "use_vertical_padding")
        changes = {f"Global.{switch}": False for switch in switches}
        self._engine = open_rapidocr(num_threads, {"Global.return_word_box": True, **changes})

    def find(self, picture: np.ndarray) -> list[tuple[Corners, np.ndarray]]:
        """Words in the order in which one reads them: lines from above, in a line from the left.

        Args:
            picture: (H, W, 3) uint8, RGB.

        Returns: of each its corners (4, 2) in pixels of the picture, clockwise from where the text begins, and its
            rectified image (h, w, 3) uint8.
        """
        boxes = [begun(box) for box in in_reading_order(self._boxes(picture))]
        lines = [(box, rectify(picture, box)) for box in boxes]
        if not lines:
            return []
        read: Any = self._engine.recognize_txt([_blue_first(_squeezed(image)) for _, image in lines])
        return [
            word
            for (box, image), text, found in zip(lines, read.txts, read.word_results, strict=True)
            for word in cut_between(box, image, word_spans(text, found))
        ]

    def _boxes(self, picture: np.ndarray) -> list[Corners]:
        height, width = picture.shape[:2]
        scale = min(1.0, MAX_SIDE / max(height, width))
        size = (max(1, round(width * scale)), max(1, round(height * scale)))
        shrunk = cv2.resize(picture, size, interpolation=cv2.INTER_AREA) if scale < 1 else picture
        least = max(MIN_SIDE, max(size) // MAX_ASPECT)
        right, below = max(0, least - size[0]), max(0, least - size[1])
        padded = cv2.copyMakeBorder(shrunk, 0, below, 0, right, cv2.BORDER_REPLICATE)
        found: Any = self._engine(_blue_first(padded))
        if found.boxes is None:
            return []
        enlargement = np.array([width / size[0], height / size[1]])
        boxes = (np.clip(box * enlargement, 0, (width, height)).astype(np.float32) for box in found.boxes)
        return [box for box in boxes if min(_lengths(box)) >= 1]


def word_spans(text: str, line: Any) -> list[tuple[float, float]]:
    """From where to where the words of a line reach, as fractions of its width.

    Args:
        text: of the line, with spaces between words.
        line: RapidOCR's ``WordInfo``: the columns of its output at which the characters but the spaces were seen. It
            groups them by their distance, which tears wide letters off; so only the spaces count here.
    """
    columns = [column + 0.5 for group in line.word_cols for column in group]
    lengths = [len(word) for word in text.split()]
    if not columns or sum(lengths) != len(columns):
        return [(0.0, 1.0)]
    centres = np.split(np.array(columns) / line.line_txt_len, np.cumsum(lengths)[:-1])
    gaps = np.concatenate([np.diff(word) for word in centres])
    reach = MARGIN * float(gaps.mean()) if len(gaps) else 1.0
    cuts = [0.0, *((before[-1] + after[0]) / 2 for before, after in pairwise(centres)), 1.0]
    return [
        (max(float(word[0]) - reach, start), min(float(word[-1]) + reach, end))
        for word, start, end in zip(centres, cuts[:-1], cuts[1:], strict=True)
    ]


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
        spans: from where to where, as fractions of its width; one that is narrower than a pixel is left out.
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


def _squeezed(line: np.ndarray) -> np.ndarray:
    height, width = line.shape[:2]
    limit = MAX_LINE_ASPECT * height
    return line if width <= limit else cv2.resize(line, (limit, height), interpolation=cv2.INTER_AREA)


def _blue_first(image: np.ndarray) -> np.ndarray:
    """RGB as OpenCV has it."""
    return np.ascontiguousarray(image[:, :, ::-1])
