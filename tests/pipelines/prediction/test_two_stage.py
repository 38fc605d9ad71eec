"""Enlarge and read: the shape that is restored, and words that a general recognizer reads."""

import numpy as np
import pytest
from PIL import Image

from kdltr_core.data.images import native_sizes
from kdltr_core.data.pack import build_pack
from kdltr_core.evaluation.benchmarks import read_benchmarks
from pipelines.prediction.two_stage import enlarge_word, two_stage_column
from tests.kdltr_core.data.sets import drawn, write_records
from tests.service import encoded, word_picture

WORDS = ("STATION", "Hotel", "open24", "Bakery")


def test_the_picture_gets_48_rows_and_the_shape_it_had():
    low_res = drawn(0, 64, 16)
    expected = Image.fromarray(low_res).resize((240, 48), Image.Resampling.BICUBIC)
    np.testing.assert_array_equal(enlarge_word(low_res, 150 / 30), np.asarray(expected))
    # A word narrower than a pixel a row is still a picture.
    assert enlarge_word(low_res, 0.001).shape == (48, 1, 3)


@pytest.mark.slow
def test_clean_words_are_read_in_their_order_with_a_confidence(tmp_path):
    """Whose 16 x 64 pictures are squeezed by as much as the word is long."""
    records = {"num-samples": str(len(WORDS)).encode()}
    for number, word in enumerate(WORDS, start=1):
        records |= {f"image-{number:09d}": encoded(word_picture(word)), f"label-{number:09d}": word.encode()}
    folder = write_records(tmp_path / "words", records)
    packs = {"words": build_pack(folder, cache_folder=tmp_path / "cache")}
    reader = two_stage_column({"words": native_sizes(folder, packs["words"].keys)}, num_threads=1)
    table = read_benchmarks([reader], packs, batch_size=3)
    assert table.scores["words"][reader.column].num_correct == len(WORDS)
    assert all(0.5 < word.predictions[reader.column].confidence <= 1 for word in table.words)
