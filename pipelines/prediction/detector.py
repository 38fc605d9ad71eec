"""Words in whole pictures, found by RapidOCR's detector: the only file that knows it."""

from __future__ import annotations

import importlib.util
from itertools import pairwise
from typing import Any, Literal

import cv2
import numpy as np

from pipelines.prediction.rectify import Corners, begun, cut_between, in_reading_order, rectify

Cutting = Literal["words", "lines"]

# RapidOCR enlarges what is low, a picture or a line, and takes memory by the pixels that this makes: bounded here.
MAX_SIDE = 2000
MIN_SIDE = 32
MAX_ASPECT = 4
MAX_LINE_ASPECT = 40
# Of the mean distance of two characters: how far a word reaches beyond the middle of its first and last one.
MARGIN = 0.8


class WordDetector:
    """Finds text of any slant up to a quarter turn. Threads may share one.

    RapidOCR's detector finds lines. ``cutting="words"`` has its recognizer say where each character of a line stands,
    and cuts at the spaces that it reads; where it reads none, the line is one word. Text upside down is not turned.

    Args:
        num_threads: of ONNX Runtime.

    Raises: ValueError if the package is not installed.
    """

    def __init__(self, cutting: Cutting, num_threads: int) -> None:
        if importlib.util.find_spec("rapidocr") is None:
            raise ValueError("--detect needs RapidOCR's detector: pip install 'kdltr[detect]'")
        from rapidocr import RapidOCR

        threads = {f"EngineConfig.onnxruntime.{kind}_op_num_threads": num_threads for kind in ("intra", "inter")}
        switches = ("use_cls", "use_rec", "use_preprocess_img", "use_vertical_padding")
        self._engine = RapidOCR(
            params={
                "Global.log_level": "error",
                "Global.return_word_box": True,
                **{f"Global.{switch}": False for switch in switches},
                **threads,
            }
        )
        self._cutting = cutting

    def find(self, picture: np.ndarray) -> list[tuple[Corners, np.ndarray]]:
        """Words, or lines, in the order in which one reads them: lines from above, in a line from the left.

        Args:
            picture: (H, W, 3) uint8, RGB.

        Returns: of each its corners (4, 2) in pixels of the picture, clockwise from where the text begins, and its
            rectified image (h, w, 3) uint8.
        """
        boxes = [begun(box) for box in in_reading_order(self._boxes(picture))]
        lines = [(box, rectify(picture, box)) for box in boxes]
        if self._cutting == "lines" or not lines:
            return lines
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
        return [box for box in boxes if min(_sides(box)) >= 1]


def word_spans(text: str, line: Any) -> list[tuple[float, float]]:
    """From where to where the words of a line reach, as shares of its width.

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


def _sides(box: Corners) -> tuple[float, float]:
    return float(np.linalg.norm(box[1] - box[0])), float(np.linalg.norm(box[3] - box[0]))


def _squeezed(line: np.ndarray) -> np.ndarray:
    height, width = line.shape[:2]
    limit = MAX_LINE_ASPECT * height
    return line if width <= limit else cv2.resize(line, (limit, height), interpolation=cv2.INTER_AREA)


def _blue_first(image: np.ndarray) -> np.ndarray:
    """RGB as OpenCV has it."""
    return np.ascontiguousarray(image[:, :, ::-1])
