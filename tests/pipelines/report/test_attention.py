"""Where a reader looked: what glows, and which families have maps."""

import numpy as np
import pytest
import torch

from kdltr_core.recognizers.decoding import decode_predictions
from pipelines.report.attention import attend, glow
from tests.kdltr_core.small import CNN_FAMILIES, STUDENTS


def test_the_picture_glows_where_the_map_is_and_is_dark_elsewhere():
    grey = np.full((16, 64, 3), 120, np.uint8)
    attention = np.zeros((8, 32))
    attention[2, 20] = 0.5
    lit = glow(grey, attention.ravel()).astype(int)
    # Position (2, 20) of 8 x 32 covers rows 4 and 5, columns 40 and 41 of 16 x 64.
    redness = lit[:, :, 0] - lit[:, :, 2]
    assert np.unravel_index(redness.argmax(), redness.shape)[0] in (4, 5)
    assert np.unravel_index(redness.argmax(), redness.shape)[1] in (40, 41)
    assert (lit[10:, :30] < 120).all()


@pytest.mark.parametrize("name", CNN_FAMILIES)
def test_cnn_families_show_a_picture_for_each_character(name):
    torch.manual_seed(1)
    student = STUDENTS[name]().eval()
    images = torch.randint(0, 256, (3, 3, 16, 64), dtype=torch.uint8)
    words = attend(student, images)
    with torch.inference_mode():
        output = student(images.float() / 255)
    assert [w.text for w in words] == decode_predictions(output.logits, student.charset)
    assert any(w.text for w in words)
    for row, word in enumerate(words):
        assert len(word.steps) == len(word.text)
        for step, picture in enumerate(word.steps):
            expected = glow(images[row].numpy().transpose(1, 2, 0), output.attention[row, step].numpy())
            np.testing.assert_array_equal(picture, expected)


def test_parseq_has_no_maps():
    assert attend(STUDENTS["parseq_tiny"](), torch.zeros(1, 3, 16, 64, dtype=torch.uint8)) == []
