"""Whole pictures: words are found where they were drawn, in order; odd shapes are pictures without words."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from matplotlib import get_data_path
from PIL import Image, ImageDraw, ImageFont

from pipelines.predict import main
from pipelines.prediction.detector import WordDetector, word_spans
from pipelines.run.command_line import answer_mistakes
from tests.service import make_student

LINES = [(30, 40, 48, "GRAND HOTEL"), (120, 60, 32, "rooms from 45"), (200, 420, 60, "OPEN")]


def sign() -> tuple[Image.Image, list[tuple[str, tuple[float, float]]]]:
    """A picture, and the words in it with the middles of where they were drawn."""
    picture = Image.new("RGB", (700, 320), "#f0e6d0")
    draw, words = ImageDraw.Draw(picture), []
    for top, left, size, text in LINES:
        font = ImageFont.truetype(str(Path(get_data_path(), "fonts", "ttf", "DejaVuSans-Bold.ttf")), size)
        draw.text((left, top), text, fill="#3a2412", font=font)
        for word in text.split():
            before = text[: text.index(word)]
            x0, y0, x1, y1 = draw.textbbox((left + font.getlength(before), top), word, font=font)
            words.append((word, ((x0 + x1) / 2, (y0 + y1) / 2)))
    return picture, words


@pytest.mark.parametrize(
    ("text", "columns", "length", "spans"),
    [
        ("", [], 0, [(0, 8)]),
        ("a", [[4]], 8, [(0, 8)]),
        ("abc de", [[1, 3, 5], [11, 13]], 16, [(0, 7.1), (9.9, 15.1)]),  # words do not reach far into a wide gap
        ("ab c", [[1, 3], [6]], 8, [(0, 5), (5, 8)]),  # here both reach to its middle
        ("roomy", [[1, 3, 5, 7], [9]], 12, [(0, 11.1)]),  # no space: one word, however it is grouped
    ],
)
def test_a_line_is_cut_at_its_spaces(
    text: str, columns: list[list[int]], length: float, spans: list[tuple[float, float]]
) -> None:
    """Characters two columns apart: a word reaches 0.8 · 2 columns beyond the middles of its first and last one."""
    found = word_spans(text, SimpleNamespace(word_cols=columns, line_txt_len=length))
    np.testing.assert_allclose(np.array(found) * (length or 8), spans)


def test_a_missing_package_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "rapidocr" else find(name))
    with pytest.raises(ValueError, match=r"--detect needs RapidOCR's detector: pip install 'kdltr\[detect\]'"):
        WordDetector("words", 1)


needs_rapidocr = pytest.mark.skipif(not importlib.util.find_spec("rapidocr"), reason="needs the extra 'detect'")


@pytest.fixture(scope="module")
def detector() -> WordDetector:
    return WordDetector("words", 1)


@needs_rapidocr
@pytest.mark.slow
def test_words_are_found_where_they_were_drawn_in_order(detector: WordDetector) -> None:
    picture, words = sign()
    found = detector.find(np.asarray(picture))
    assert len(found) == len(words)
    for (corners, image), (_, middle) in zip(found, words, strict=True):
        assert np.abs(corners.mean(0) - middle).max() < 12
        width, height = np.ptp(corners, axis=0)
        assert image.shape[:2] == pytest.approx((height, width), abs=2)


@needs_rapidocr
@pytest.mark.long
def test_boxes_are_in_pixels_of_the_picture_whatever_its_size(detector: WordDetector) -> None:
    picture, words = sign()
    large = picture.resize((700 * 4, 320 * 4))
    for (corners, _), (_, middle) in zip(detector.find(np.asarray(large)), words, strict=True):
        assert np.abs(corners.mean(0) / 4 - middle).max() < 12


@needs_rapidocr
@pytest.mark.long
@pytest.mark.parametrize("shape", [(1, 1), (1, 100_000), (100_000, 1)])
def test_odd_shapes_are_pictures_without_words(shape: tuple[int, int], detector: WordDetector) -> None:
    assert detector.find(np.full((*shape, 3), 255, np.uint8)) == []


@needs_rapidocr
@pytest.mark.long
def test_the_command_reads_a_sign(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    student = make_student(tmp_path / "run")
    picture, words = sign()
    picture.save(tmp_path / "sign.png")
    Image.new("RGB", (300, 200), "white").save(tmp_path / "blank.png")
    (tmp_path / "broken.png").write_bytes(b"no")
    files = [str(tmp_path / name) for name in ("sign.png", "blank.png", "broken.png")]
    output = tmp_path / "words.jsonl"
    monkeypatch.setattr(sys, "argv", ["predict.py", str(student), *files, "--detect", "--output", str(output)])
    assert answer_mistakes(main) == 1
    rows = [json.loads(line) for line in output.read_text().splitlines()]
    assert [row["text"] for row in rows] == [word for word, _ in words]
    assert {row["image"] for row in rows} == {files[0]}
    for row, (_, middle) in zip(rows, words, strict=True):
        assert np.abs(np.mean(row["box"], axis=0) - middle).max() < 12
