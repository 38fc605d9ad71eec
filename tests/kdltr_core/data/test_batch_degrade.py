"""Degradation in batch is the CPU's: the same filters, the same distributions, and a pair's draw is its own."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from scipy import ndimage
from torch import Tensor

from benchmarks.degradation import KINDS, standard_errors
from kdltr_core.config import DegradationName
from kdltr_core.data import batch_published
from kdltr_core.data.batch_degrade import make_low_res_batch
from kdltr_core.data.batch_draws import Draws
from kdltr_core.data.batch_jpeg import compress_batch
from kdltr_core.data.batch_mean_shift import mean_shift
from kdltr_core.data.batch_superpixels import _first_pixels
from kdltr_core.data.degrade import gaussian_blur, motion_kernel
from kdltr_core.data.pack import build_pack
from kdltr_core.data.synth.render import render_words

CPU = torch.device("cpu")
SEEDS = np.random.default_rng(1).integers(0, 2**63, 600, np.uint64)


@pytest.fixture(scope="module")
def words(tmp_path_factory: pytest.TempPathFactory) -> tuple[Tensor, Tensor]:
    """600 pairs of 150 rendered words."""
    folder: Path = tmp_path_factory.mktemp("words")
    render_words(folder / "words", 150, seed=0)
    high_res, low_res = build_pack(folder / "words", cache_folder=folder / "cache", degradation="interlaced").gather(
        np.arange(150)
    )
    return high_res.repeat(4, 1, 1, 1), low_res.repeat(4, 1, 1, 1)


def opencv(change: object, images: Tensor) -> np.ndarray:
    return np.stack([change(np.ascontiguousarray(i.permute(1, 2, 0).numpy())) for i in images]).transpose(0, 3, 1, 2)  # type: ignore[operator]


def parameters(*values: float, num: int = 40) -> list[np.ndarray]:
    return [np.full(num, value) for value in values]


FILTERS = [
    *[("gaussian", (s,), lambda image, s=s: gaussian_blur(image, s)) for s in (0.0, 0.3, 0.77, 1.5, 2.96)],
    *[("average", (k,), lambda image, k=k: cv2.blur(image, (k, k))) for k in range(1, 6)],
    *[("median", (k,), lambda image, k=k: cv2.medianBlur(image, k)) for k in (3, 5, 7)],
    *[
        ("bilateral", given, lambda image, given=given: cv2.bilateralFilter(image, *given))
        for given in ((3, 10.0, 250.0), (6, 70.0, 20.0), (9, 30.0, 100.0))
    ],
    *[
        ("motion", given, lambda image, given=given: cv2.filter2D(image, -1, motion_kernel(*given)))
        for given in ((0.1, 0.0), (0.5, 45.0), (0.9, 200.2))
    ],
]


@pytest.mark.parametrize(("name", "given", "expected"), FILTERS)
def test_filters_are_opencvs_within_a_grey_level(
    name: str, given: tuple[float, ...], expected: object, words: tuple[Tensor, Tensor]
) -> None:
    images = words[1][:40]
    found = getattr(batch_published, f"filtered_{name}")(images.float(), *parameters(*given))
    assert np.abs(found.numpy() - opencv(expected, images)).max() <= 1


def test_mean_shift_is_opencvs_but_for_few_pixels(words: tuple[Tensor, Tensor]) -> None:
    """Its pixels shift one after the other, ours at once: a seventh of what the filter changes."""
    images = words[1][:10]
    for reach, colours in ((8.0, 10.0), (20.0, 25.0), (37.0, 39.0)):
        found = mean_shift(images.float(), *parameters(reach, colours, num=10)).numpy()
        expected = opencv(
            lambda image, r=reach, c=colours: cv2.pyrMeanShiftFiltering(image, r, c, dst=image), images
        ).astype(float)
        assert np.abs(found - expected).mean() < np.abs(expected - images.numpy()).mean() / 7


@pytest.mark.parametrize("kind", KINDS)
def test_every_operation_has_the_cpus_distribution(kind: str, words: tuple[Tensor, Tensor]) -> None:
    num = {"mean_shift": 40, "superpixels": 300, "bilateral": 200, "median": 300, "camera": 400}.get(kind, 600)
    found = standard_errors(kind, words[0][:num], words[1][:num], CPU)
    assert max(map(abs, found.values())) < 4, found


def test_pieces_of_segments_are_those_that_another_library_finds() -> None:
    segments = np.random.default_rng(0).random((20, 16, 64)) < 0.6
    found = _first_pixels(torch.from_numpy(segments).long()).view(20, 16, 64).numpy()
    for picture, pieces in zip(segments, found, strict=True):
        for value in (False, True):
            labels, num = ndimage.label(picture == value)
            assert len({(label, piece) for label, piece in zip(labels.flat, pieces.flat, strict=True) if label}) == num


def test_jpeg_loses_what_opencv_loses(words: tuple[Tensor, Tensor]) -> None:
    """Within a fifth of the loss: rounding inside differs, and where it tips a coefficient a block does."""
    images = words[1][:60]
    for quality in (50, 80, 95):

        def expected(image: np.ndarray, quality: int = quality) -> np.ndarray:
            encoded = cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
            return cv2.imdecode(encoded, cv2.IMREAD_COLOR)[..., ::-1]  # type: ignore[index]

        found, theirs = (
            compress_batch(images.float(), torch.full((60,), float(quality))).numpy(),
            opencv(expected, images),
        )
        assert np.abs(found - theirs).mean() < 0.2 * np.abs(theirs - images.numpy().astype(float)).mean()


@pytest.mark.parametrize("name", ["published", "camera", "mixed", "interlaced"])
def test_a_pairs_draw_is_the_same_in_another_batch_and_another_with_another_seed(
    name: DegradationName, words: tuple[Tensor, Tensor]
) -> None:
    high_res, low_res = (side[:30] for side in words)
    before = low_res.clone()
    together = make_low_res_batch(high_res, low_res, SEEDS[:30], name)
    order = np.random.default_rng(0).permutation(30)[:11]
    alone = make_low_res_batch(high_res[order], low_res[order], SEEDS[order], name)
    assert torch.equal(alone, together[order])
    assert torch.equal(low_res, before)
    others = make_low_res_batch(high_res, low_res, SEEDS[30:60], name)
    assert (others != together).flatten(1).any(1).float().mean() > 0.6


def test_mixed_is_half_camera_a_quarter_published_and_a_quarter_clean(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Within four standard errors of 600 draws."""
    for name, value in (("photograph_batch", 1), ("degrade_batch", 2)):
        marked = lambda images, seeds, value=value: torch.full_like(images, value)  # noqa: E731
        monkeypatch.setattr(f"kdltr_core.data.batch_degrade.{name}", marked)
    high_res = low_res = torch.zeros(600, 3, 1, 1, dtype=torch.uint8)
    drawn = make_low_res_batch(high_res, low_res, SEEDS, "mixed").flatten(1)[:, 0].bincount() / 600
    assert drawn.tolist() == pytest.approx([0.25, 0.5, 0.25], abs=0.08)
    assert not make_low_res_batch(high_res, low_res, SEEDS, "none").any()


def test_each_published_operation_is_carried_out_for_a_quarter_of_the_pictures(
    words: tuple[Tensor, Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    """In either order of two of them."""
    marked = {
        name: lambda images, draws, number=number: images * 2 + number % 2
        for number, name in enumerate(batch_published.OPERATIONS)
    }
    monkeypatch.setattr(batch_published, "OPERATIONS", marked)
    made = batch_published.degrade_batch(torch.ones(600, 3, 16, 64), SEEDS)[:, 0, 0, 0].numpy()
    num_chosen = np.floor(np.log2(made))
    assert num_chosen.mean() == pytest.approx(2, abs=4 * (8 * 0.25 * 0.75 / 600) ** 0.5)
    assert {0b101, 0b110} <= set(made[num_chosen == 2])


def test_draws_are_uniform_and_normal_and_rows_of_noise_have_nothing_in_common() -> None:
    draws = Draws(np.arange(4000, dtype=np.uint64), 0)
    assert draws.uniform().mean() == pytest.approx(0.5, abs=0.02)
    assert np.bincount(draws.integers(3, 7), minlength=8)[3:].min() > 700
    assert draws.normal(1.0, 2.0).std() == pytest.approx(2.0, abs=0.1)
    noise = Draws(np.arange(50, dtype=np.uint64), 0).normals_like(torch.empty(50, 3, 16, 64)).flatten(1).numpy()
    assert noise.std() == pytest.approx(1, abs=0.01)
    assert np.abs(np.corrcoef(noise) - np.eye(50)).max() < 0.1
