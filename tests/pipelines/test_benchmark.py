"""The benchmark script writes what it measured."""

from __future__ import annotations

import json

import pytest

from kdltr_core.config import RecognizerName
from pipelines.benchmark import BenchmarkConfig, main
from pipelines.speed_table import Row, Section, to_json, to_markdown


def test_rates_and_ratios_are_those_of_one_item():
    """10 items in 2 s against 30 items in 3 s: 5/s against 10/s, twice the speed, half the time."""
    sections = [Section("Walking", "steps", [Row("old", 2.0, 10), Row("new", 3.0, 30)])]
    assert "| new | 3000.00 | 10 | 2.00× | 50.0% |" in to_markdown(sections, {"device": "desk"})
    rows = to_json(sections, {})["sections"][0]["rows"]
    assert rows[1] == {"name": "new", "seconds": 3.0, "steps_per_second": 10.0}


def test_a_run_writes_table_and_json(tmp_path):
    config = BenchmarkConfig(
        sections=("gather", "sequence"),
        num_pairs=8,
        batch_size=4,
        repeats=1,
        num_threads=1,
        device="cpu",
        output=tmp_path,
    )
    assert main(config) == 0
    recorded = json.loads((tmp_path / "speed.json").read_text())
    assert [len(section["rows"]) for section in recorded["sections"]] == [2, 3]
    assert "| pack |" in (tmp_path / "speed.md").read_text()


@pytest.mark.slow
@pytest.mark.parametrize(("recognizer", "reads"), [("parseq_tiny", "6 permutations"), ("abinet", "26 steps")])
def test_a_training_step_is_measured_by_phase(tmp_path, recognizer: RecognizerName, reads: str):
    config = BenchmarkConfig(
        sections=("step",),
        recognizer=recognizer,
        num_pairs=4,
        batch_size=2,
        repeats=1,
        num_threads=1,
        device="cpu",
        output=tmp_path,
    )
    assert main(config) == 0
    section = json.loads((tmp_path / "speed.json").read_text())["sections"][0]
    assert reads in section["title"]
    rows = section["rows"]
    names = [row["name"] for row in rows]
    assert names[:3] == ["whole step", "teacher", "student"]
    assert {"visual_focus", "semantic_contrast", "soft_logits", "cross_entropy", "backward"} < set(names)
    assert sum(row["seconds"] for row in rows[1:]) <= rows[0]["seconds"]


def test_no_repeats_are_refused(tmp_path):
    with pytest.raises(ValueError, match="at least 1"):
        main(BenchmarkConfig(repeats=0, output=tmp_path))
