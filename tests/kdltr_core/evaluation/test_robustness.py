"""Curves over blur and noise: what is corrupted, by how much, and what is kept."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.ndimage import gaussian_filter
from torch import nn

from kdltr_core.charset import Charset36
from kdltr_core.evaluation.benchmarks import BenchmarkReader
from kdltr_core.evaluation.corruptions import CorruptedPairs
from kdltr_core.evaluation.robustness import measure_robustness
from kdltr_core.evaluation.table import STUDENT_LOW_RES, TEACHER_ENLARGED, TEACHER_HIGH_RES
from kdltr_core.recognizers import RecognizerOutput
from pipelines.report.figures import write_robustness


class Sharpness(nn.Module):
    """Reads "a" off an image that is sharp enough, and "b" off others."""

    charset, temperature = Charset36, 1.0

    def forward(self, images):
        sharp = images.std(dim=(1, 2, 3)) > 0.45
        logits = torch.zeros(len(images), 2, 37)
        logits[sharp, 0, 1] = 1
        logits[~sharp, 0, 2] = 1
        logits[:, 1, 0] = 1
        return RecognizerOutput(logits, torch.empty(0))


@pytest.fixture
def pack():
    """Three images of black and white stripes, one column wide, and a constant grey one."""
    low_res = torch.zeros(4, 3, 16, 64, dtype=torch.uint8)
    low_res[:3, :, :, ::2] = 255
    low_res[3] = 128
    high_res = torch.zeros(4, 3, 32, 128, dtype=torch.uint8)

    def gather(indices):
        return high_res[indices].clone(), low_res[indices].clone()

    class Stripes(SimpleNamespace):
        def __len__(self):
            return 4

    return Stripes(name="stripes", labels=["a", "a", "a", "b"], keys=list("1234"), gather=gather)


def test_strength_zero_changes_nothing(pack):
    rows = np.array([3, 0])
    for name in ("gaussian_blur", "gaussian_noise"):
        for corrupted, original in zip(CorruptedPairs(pack, name, 0.0).gather(rows), pack.gather(rows), strict=True):
            assert torch.equal(corrupted, original)


def test_blur_is_gaussian_on_low_res_alone(pack):
    high_res, low_res = CorruptedPairs(pack, "gaussian_blur", 1.0).gather(np.array([0]))
    stripes = pack.gather(np.array([0]))[1][0, 0].numpy().astype(float)
    # scipy's, over an unbounded window; the middle columns, away from what each does at the border.
    expected = gaussian_filter(stripes, (0, 1.0))[:, 8:-8]
    assert np.abs(low_res[0, 0].numpy()[:, 8:-8] - expected).max() < 4
    assert torch.equal(high_res, pack.gather(np.array([0]))[0])


def test_noise_has_the_strength_asked_for_and_depends_on_the_row_alone(pack):
    noisy = CorruptedPairs(pack, "gaussian_noise", 10.0)
    _, together = noisy.gather(np.array([0, 3]))
    _, alone = noisy.gather(np.array([3]))
    assert torch.equal(together[1], alone[0])
    noise = alone[0].float() - 128
    assert abs(noise.std().item() - 10) < 0.5
    assert abs(noise.mean().item()) < 0.5


def test_accuracy_is_measured_at_every_severity_by_the_readers_of_low_res(pack, tmp_path):
    reader = Sharpness()
    readers = [BenchmarkReader(c, reader) for c in (TEACHER_HIGH_RES, TEACHER_ENLARGED, STUDENT_LOW_RES)]
    seen = []
    curves = measure_robustness(
        readers, {"s": pack}, batch_size=3, num_words_in_all=9, progress=lambda d, t: seen.append((d, t))
    )
    # Stripes of one pixel have standard deviation 0.5; blur of σ ≥ 0.5 pixels takes it under 0.45, noise does not.
    assert curves.accuracies["gaussian_blur"][STUDENT_LOW_RES] == (1.0, 0.25, 0.25, 0.25, 0.25, 0.25)
    assert curves.accuracies["gaussian_noise"][STUDENT_LOW_RES] == (1.0, 1.0, 1.0, 1.0, 1.0)
    assert curves.accuracies["motion_blur"][STUDENT_LOW_RES][0] == 1.0
    assert list(curves.accuracies["gaussian_blur"]) == [TEACHER_ENLARGED, STUDENT_LOW_RES]
    assert "resolution" not in curves.accuracies  # which takes the sources
    assert seen == sorted(seen)
    assert seen[-1] == (22 * 2 * 4, 22 * 2 * 4)

    write_robustness(curves, tmp_path / "curves.png")
    tree = curves.to_tree()
    assert (tree["num_words"], tree["num_words_in_all"]) == (4, 9)
    assert curves.caption == "a seeded sample of 4 of the 9 words"
    assert tree["curves"]["gaussian_noise"]["severities"] == ["0", "5", "10", "15", "20"]
    assert tree["curves"]["gaussian_blur"]["accuracy"]["student_low_res"][:2] == (1.0, 0.25)
    # sqrt(p (1 - p) / n) of a quarter of four words.
    assert tree["curves"]["gaussian_blur"]["standard_error"]["student_low_res"][1] == pytest.approx((3 / 64) ** 0.5)
    assert Image.open(tmp_path / "curves.png").size == (1430, 814)


class Source:
    """Stripes of one pixel at 32 x 128, of which 16 x 64 and less keep nothing."""

    def pixels(self, set_name, key):
        image = np.zeros((32, 128, 3), np.uint8)
        image[:, ::2] = 255
        return image


def test_at_every_resolution_the_teacher_reads_the_picture_at_its_own_size(pack):
    readers = [BenchmarkReader(c, Sharpness()) for c in (TEACHER_ENLARGED, STUDENT_LOW_RES)]
    curves = measure_robustness(readers, {"s": pack}, batch_size=4, native=Source())
    # The labels are a, a, a, b: three of four are right where the stripes are seen, one where they are not.
    assert curves.accuracies["resolution"][TEACHER_ENLARGED] == (0.25, 0.25, 0.25, 0.25, 0.75)
    assert curves.accuracies["resolution"][STUDENT_LOW_RES] == (0.25,) * 5


def test_without_a_reader_of_low_res_there_are_no_curves(pack):
    with pytest.raises(ValueError, match="nobody to read"):
        measure_robustness([BenchmarkReader(TEACHER_HIGH_RES, Sharpness())], {"s": pack}, batch_size=2)
