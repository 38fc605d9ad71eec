"""The check for whoever has a GPU runs through without one, and says what it did not measure."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.gpu_check import LIMITS, CheckConfig, main


def test_every_part_ends_as_it_should_on_a_cpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benchmarks.gpu_check.LIMITS", dict.fromkeys(LIMITS, 600))  # a busy machine
    assert main(CheckConfig(families=("parseq_tiny",), output=tmp_path)) == 0
    found = json.loads((tmp_path / "gpu_check.json").read_text())
    assert list(found) == ["terms", "captured", "degradation", "reading", "speed", "learning"]
    assert found["terms"]["rows"][0]["largest difference of a term"] == 0
    assert all(row["values rounded otherwise"] == 0 for row in found["degradation"]["rows"][:9])
    assert "not measured" in (tmp_path / "gpu_check.md").read_text()
    assert sum(LIMITS.values()) <= 480
    with pytest.raises(ValueError, match="there is no part tems; there are terms, captured"):
        main(CheckConfig(parts=("tems",)))
