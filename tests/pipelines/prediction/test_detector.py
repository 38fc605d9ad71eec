"""Whole pictures: words are found where they were drawn, in order; odd shapes are pictures without words."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from matplotlib import get_data_path
from PIL import Image, ImageDraw, ImageFont

from kdltr_core.inference.detector import WordDetector, begun, cut_between, in_reading_order, rectify, word_spans
from kdltr_core.inference.reader import load_student
from pipelines.predict import main
from pipelines.prediction.two_stage import two_stage_column

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


@pytest.mark.parametrize("opened", [WordDetector, partial(two_stage_column, {})])
def test_a_missing_package_is_one_sentence(opened: Callable[[int], object], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"needs RapidOCR: pip install 'kdltr\[detect\]'"):
        opened(1)


needs_rapidocr = pytest.mark.skipif(not importlib.util.find_spec("rapidocr"), reason="needs the extra 'detect'")


@pytest.fixture(scope="module")
def detector() -> WordDetector:
    return WordDetector(1)


@needs_rapidocr
@pytest.mark.long
@pytest.mark.parametrize("shape", [(1, 1), (1, 100_000), (100_000, 1)])
def test_odd_shapes_are_pictures_without_words(shape: tuple[int, int], detector: WordDetector) -> None:
    assert detector.find(np.full((*shape, 3), 255, np.uint8)) == []


@needs_rapidocr
@pytest.mark.long
def test_the_command_reads_a_sign(student: Path, tmp_path: Path, command: Callable[..., tuple[int, str, str]]) -> None:
    picture, words = sign()
    picture.save(tmp_path / "sign.png")
    Image.new("RGB", (300, 200), "white").save(tmp_path / "blank.png")
    (tmp_path / "broken.png").write_bytes(b"no")
    files = [str(tmp_path / name) for name in ("sign.png", "blank.png", "broken.png")]
    output = tmp_path / "words.jsonl"
    assert command(main, student, *files, "--detect", "--output", output)[0] == 1
    rows = [json.loads(line) for line in output.read_text().splitlines()]
    assert [row["text"] for row in rows] == [word for word, _ in words]
    assert {row["image"] for row in rows} == {files[0]}
    for row, (_, middle) in zip(rows, words, strict=True):
        assert np.abs(np.mean(row["box"], axis=0) - middle).max() < 12


@pytest.mark.slow
@needs_rapidocr
@pytest.mark.parametrize("scale", [1, 4])
def test_a_student_in_python_reads_a_sign_and_says_where(scale: int) -> None:
    picture, drawn = sign()
    (found,) = load_student(device="cpu", detect=True)([picture.resize((700 * scale, 320 * scale))])
    assert [word.text.upper() for word in found] == [text.upper() for text, _ in drawn]
    middles = np.stack([word.box.mean(axis=0) / scale for word in found])
    np.testing.assert_allclose(middles, [middle for _, middle in drawn], atol=12)
    assert all(0 < word.confidence <= 1 for word in found)
