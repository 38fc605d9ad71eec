"""Enlarge and read: the shape that is restored, and words that a general recognizer reads."""

from pathlib import Path

import numpy as np
import pytest
from matplotlib import get_data_path
from PIL import Image, ImageDraw, ImageFont

from kdltr_core.data.images import NativeImages
from kdltr_core.data.pack import build_pack
from kdltr_core.evaluation.benchmarks import read_benchmarks
from kdltr_core.evaluation.corruptions import NATIVE, CorruptedPairs, sample_words
from kdltr_core.evaluation.table import Column
from kdltr_core.recognizers.decoding import Prediction
from pipelines.prediction.two_stage import enlarge_word, two_stage_columns
from tests.kdltr_core.data.sets import drawn, png, write_records

WORDS = ("STATION", "Hotel", "open24", "Bakery")


@pytest.mark.parametrize(
    ("enlargement", "resampling"), [("bicubic", Image.Resampling.BICUBIC), ("lanczos", Image.Resampling.LANCZOS)]
)
def test_the_picture_gets_48_rows_and_the_shape_it_had(enlargement, resampling):
    low_res = drawn(0, 64, 16)
    enlarged = enlarge_word(low_res, 150 / 30, enlargement)
    assert enlarged.shape == (48, 240, 3)
    np.testing.assert_array_equal(enlarged, np.asarray(Image.fromarray(low_res).resize((240, 48), resampling)))
    # A word narrower than a pixel a row is still a picture.
    assert enlarge_word(low_res, 0.001, enlargement).shape == (48, 1, 3)


def printed(word):
    """A word in dark on light, as wide as it is: 60 rows, 30 columns a letter and a margin."""
    font = ImageFont.truetype(str(Path(get_data_path(), "fonts", "ttf", "DejaVuSans.ttf")), 40)
    canvas = Image.new("RGB", (40 + int(font.getlength(word)), 60), (236, 232, 220))
    ImageDraw.Draw(canvas).text((20, 6), word, fill=(30, 40, 90), font=font)
    return np.asarray(canvas)


@pytest.fixture
def sets(tmp_path):
    """Clean words, whose 16 x 64 pictures are squeezed by as much as the word is long."""
    records = {"num-samples": str(len(WORDS)).encode()}
    for number, word in enumerate(WORDS, start=1):
        records |= {f"image-{number:09d}": png(printed(word)), f"label-{number:09d}": word.encode()}
    folder = write_records(tmp_path / "words", records)
    return {"words": build_pack(folder, cache_folder=tmp_path / "cache")}, NativeImages({"words": folder})


@pytest.mark.slow
def test_clean_words_are_read_in_their_order_with_a_confidence(sets):
    packs, native = sets
    readers = two_stage_columns("both", packs, native, num_threads=1)
    columns = [reader.column for reader in readers]
    assert columns == [Column("two_stage", "bicubic"), Column("two_stage", "lanczos")]
    table = read_benchmarks(readers, packs, batch_size=3)
    for column in columns:
        assert table.scores["words"][column].num_correct == len(WORDS)
        assert all(0.5 < word.confidences[column] <= 1 for word in table.words)


@pytest.mark.slow
def test_at_a_resolution_the_picture_of_that_resolution_is_enlarged_not_that_of_16_rows(sets):
    packs, native = sets
    (reader,) = two_stage_columns("bicubic", packs, native, num_threads=1)
    pairs = sample_words(packs, 99)["words"]
    shown = []
    reader.read._recognizer.read = lambda images: shown.extend(images) or [Prediction("", 0.0, ()) for _ in images]
    for severity in (8.0, NATIVE):
        words = CorruptedPairs(pairs, "resolution", severity, "words", native)
        read_benchmarks([reader], {"words": words}, batch_size=9)
    assert len(shown) == 2 * len(WORDS)
    for word, small, whole in zip(WORDS, shown[: len(WORDS)], shown[len(WORDS) :], strict=True):
        image = Image.fromarray(printed(word))
        size = (round(48 * image.width / image.height), 48)
        np.testing.assert_array_equal(whole, np.asarray(image.resize(size, Image.Resampling.BICUBIC)))
        expected = image.resize((32, 8), Image.Resampling.BICUBIC).resize(size, Image.Resampling.BICUBIC)
        np.testing.assert_array_equal(small, np.asarray(expected))


def test_without_the_package_the_way_to_it_is_said(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"pip install 'kdltr\[detect\]'"):
        two_stage_columns("bicubic", {}, NativeImages({}), 1)
