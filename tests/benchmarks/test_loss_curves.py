"""What is told of loss curves follows from them; that both ways have the same losses, test_reference_step.py."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.loss_curves import CurveConfig, curves_markdown, main


def test_a_distance_is_a_share_of_the_loss():
    curves = {"reference, seed 0": [4.0, 2.0], "fast, seed 0": [4.3, 2.3], "reference, seed 1": [4.0, 1.4]}
    text = curves_markdown(curves, width=1)
    assert "| 2–2 | 2.000 | 2.300 | 1.400 |" in text
    assert text.count("10.00 %") == 2


@pytest.mark.slow
def test_both_ways_are_trained_with_both_seeds(tmp_path: Path):
    assert main(CurveConfig(2, 4, num_threads=1, device="cpu", precision="float32", output=tmp_path)) == 0
    curves = json.loads((tmp_path / "curves.json").read_text())
    assert {len(losses) for losses in curves.values()} == {2}
    assert len({losses[0] for losses in curves.values()}) == len(curves) == 4
    assert len((tmp_path / "curves.md").read_text().splitlines()) > 4
