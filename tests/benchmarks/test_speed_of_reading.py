"""speed_of_reading.py gives everyone the same crops, as often, and writes what it measured."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from benchmarks.speed_of_reading import SpeedOptions, main
from pipelines.report.options import BenchmarkOptions
from tests.kdltr_core.data.sets import single_records, write_records
from tests.service import make_student


@pytest.fixture(autouse=True)
def _threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.fixture
def data(tmp_path: Path) -> BenchmarkOptions:
    """Nine words in one set and three in another."""
    for name, num in (("many", 9), ("few", 3)):
        write_records(tmp_path / "words" / name, single_records(["word"] * num))
    return BenchmarkOptions((str(tmp_path / "words"),), cache_folder=str(tmp_path / "cache"))


@pytest.mark.slow
def test_a_run_writes_table_and_json(
    data: BenchmarkOptions, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    student, output = make_student(tmp_path / "run"), tmp_path / "speed"
    settings = {"batch_sizes": (1, 3), "num_threads": (1,), "num_crops": 6, "output": output}
    assert main(SpeedOptions(str(student), data, ("pytorch", "onnx"), **settings)) == 0
    table = (output / "reading.md").read_text()
    assert table in capsys.readouterr().out
    assert "6 crops of few, many." in table
    ones, threes = json.loads((output / "reading.json").read_text())["sections"]
    for section, items, calls in ((ones, 1, 6), (threes, 3, 4)):
        rows = section["rows"]
        assert [row["name"] for row in rows] == ["student, PyTorch", "student, ONNX"]
        assert {(row["items"], row["seconds"]["repeats"]) for row in rows} == {(items, calls)}
        assert rows[0]["speed"] == 1.0


@pytest.mark.parametrize(
    "mistake", [{"candidates": ()}, {"batch_sizes": (4, 0)}, {"num_threads": (0,)}, {"num_crops": 0}]
)
def test_what_cannot_be_measured_is_refused(mistake: dict[str, object], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="give a candidate; batch sizes, numbers of threads and of crops must each"):
        main(SpeedOptions("run", output=tmp_path / "speed", **mistake))  # type: ignore[arg-type]
    assert not (tmp_path / "speed").exists()
