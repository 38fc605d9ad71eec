"""What is said of pictures that are no single word, and of text that was not read."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont

from kdltr_core import Prediction
from pipelines.prediction.doubt import doubt_of, doubts_sentence, widest_gap


def written(text: str, size: tuple[int, int]) -> Image.Image:
    picture = Image.new("RGB", size, "white")
    ImageDraw.Draw(picture).text((4, 2), text, fill="black", font=ImageFont.load_default(size[1] - 8))
    return picture


@pytest.mark.parametrize(
    ("picture", "read", "confidence", "expected"),
    [
        (written("Tomatoes", (150, 40)), "Tomatoes", 0.99, None),
        (written("Tomatoes     2.49", (300, 40)), "Tomatoes", 0.99, "cut away"),
        (written("VISA ****4821", (250, 40)), "VISA", 0.95, "cut away"),
        (written("A", (40, 40)), "A", 0.99, None),
        (Image.new("RGB", (800, 40), "white"), "HeadlineOfAnArticle", 0.99, "squeezed"),
        (Image.new("RGB", (4000, 3000), "white"), "a", 0.3, "whole picture"),
        (Image.new("RGB", (900, 400), "white"), "EXIT", 0.99, None),
        (written("a" * 30, (390, 40)), "a" * 25, 0.9, "cut away"),
    ],
)
def test_a_reading_is_doubted_where_the_picture_may_say_more(
    picture: Image.Image, read: str, confidence: float, expected: str | None
) -> None:
    assert doubt_of(picture.size, widest_gap(picture), Prediction(read, confidence, ())) == expected


@pytest.mark.parametrize("height", [16, 40, 200])
def test_the_widest_gap_is_in_heights_of_the_picture_whatever_its_size(height: int) -> None:
    picture = np.full((height, 5 * height, 3), 240, np.uint8)
    for left in (0.5, 3.0):  # two blocks of stripes, one height wide
        picture[height // 4 : height // 2, int(left * height) : int((left + 1) * height)] = 20
    assert widest_gap(Image.fromarray(picture)) == pytest.approx(1.5, abs=0.1)
    assert widest_gap(Image.fromarray(np.full_like(picture, 240))) == 0


def test_what_is_said_counts_each_kind_and_names_the_way_out() -> None:
    said = doubts_sentence({"whole picture": ["a.jpg"], "cut away": ["b.png", "c.png"]}, 9, detects=False)
    assert said == (
        "3 of 9 readings may not be all that is written: 1 whole pictures rather than words (first a.jpg), 2 with more "
        "text than was read (first b.png); --detect finds the words in a picture"
    )
    assert doubts_sentence({}, 9, detects=False) == ""
