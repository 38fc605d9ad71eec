"""The fast path's loss curve lies on the reference path's."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from benchmarks.loss_curves import CurveConfig, curves_markdown, train_curve
from benchmarks.step import Bench
from kdltr_core.data.pack import Pack, build_pack
from kdltr_core.data.synth.render import render_words

STEPS = 4


@pytest.fixture(scope="module")
def pack(tmp_path_factory: pytest.TempPathFactory) -> Pack:
    folder = tmp_path_factory.mktemp("curves")
    render_words(folder / "words", STEPS * 4, seed=0)
    return build_pack(folder / "words", cache_folder=folder / "packs")


@pytest.fixture
def no_dropout(monkeypatch: pytest.MonkeyPatch) -> None:
    """Both ways then compute the same; with it they draw different random numbers."""
    make = Bench.__init__

    def quiet(self: Bench, *args: object) -> None:
        make(self, *args)  # type: ignore[arg-type]
        self.distiller.eval()

    monkeypatch.setattr(Bench, "__init__", quiet)


@pytest.mark.slow
@pytest.mark.parametrize(("precision", "tolerance"), [("float32", 1e-3), ("bfloat16", 0.1)])
def test_the_fast_losses_are_the_reference_ones(pack: Pack, no_dropout: None, precision: str, tolerance: float):
    config = CurveConfig(STEPS, 4, torch.get_num_threads(), "cpu", precision)  # type: ignore[arg-type]
    reference, fast = (np.array(train_curve(config, pack, way, 0)) for way in ("reference", "fast"))
    np.testing.assert_allclose(fast, reference, rtol=tolerance)
    assert len(set(reference)) == STEPS


def test_a_distance_is_a_share_of_the_loss():
    curves = {"reference, seed 0": [4.0, 2.0], "fast, seed 0": [4.3, 2.3], "reference, seed 1": [4.0, 1.4]}
    text = curves_markdown(curves, width=1)
    assert "| 2–2 | 2.000 | 2.300 | 1.400 |" in text
    assert text.count("10.00 %") == 2
