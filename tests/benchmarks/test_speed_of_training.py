"""The benchmark script writes what it measured."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
import torch

from benchmarks.speed_of_training import BenchmarkConfig, main
from benchmarks.speed_table import Measured, SpeedTable
from benchmarks.stopwatch import CallTimes, interleaved


def test_rates_and_ratios_are_those_of_one_item():
    """10 items in 2 s against 30 items in 3 s: 5/s against 10/s, twice the speed, half the time."""
    old, new = CallTimes([2.0], [1.0], 2**20), CallTimes([5.0, 3.0, 1.0], [0.5], 2**21)
    table = SpeedTable("Walking", "steps", [Measured("old", old, 10), Measured("new", new, 30, 60)], matrix_rate=40.0)
    row = table.figures()["rows"][1]
    assert row["seconds"] == {"median": 3.0, "quartiles": [2.0, 4.0], "p95": 4.8, "repeats": 3}
    assert (row["items_per_second"], row["speed"], row["processor_speed"]) == (10.0, 2.0, 6.0)
    assert (row["flops_per_second"], row["fraction_of_matrix_rate"]) == (240.0, 3.0)
    assert "| new | 3000.00 (2000.00–4000.00) | 10 | 2.00× | 6.00× | 50.0% | 300.0% | 2 |" in table.markdown()
    assert replace(table, on_gpu=True).figures()["rows"][1]["fraction_of_matrix_rate"] == 0.5


def test_a_slow_step_is_not_told_as_none():
    """A step of 4 images in 16 s."""
    assert "| 0.25 |" in SpeedTable("Steps", "images", [Measured("slow", CallTimes([16.0], [16.0]), 4)]).markdown()


def test_every_action_has_its_turn_after_one_to_warm_up():
    called: list[str] = []
    timings = interleaved({"a": lambda: called.append("a"), "b": lambda: called.append("b")}, 2)
    assert called == ["a", "b"] * 3
    assert [len(timing.seconds) for timing in timings.values()] == [2, 2]


def measure(folder: Any, **values: Any) -> list[dict[str, Any]]:
    given = {"num_pairs": 8, "batch_size": 4, "repeats": 1, "num_threads": 1, "device": "cpu", "output": folder}
    threads = torch.get_num_threads()
    try:
        assert main(BenchmarkConfig(**given | values)) == 0
    finally:
        torch.set_num_threads(threads)
    return json.loads((folder / "speed.json").read_text())["sections"]


def test_a_run_writes_table_and_json(tmp_path):
    sections = measure(tmp_path, sections=("gather", "sequence"))
    assert [len(section["rows"]) for section in sections] == [2, 3, 3, 3, 3]
    assert "64 words × 26 steps × 95 classes" in sections[-1]["title"]
    assert "bundled teacher on rendered" in sections[-1]["title"]
    assert "| pack |" in (tmp_path / "speed.md").read_text()


@pytest.mark.slow
def test_steps_and_phases_of_a_recipe_are_measured(tmp_path):
    train, phases = measure(tmp_path, sections=("train", "phases"), precision="bfloat16")
    assert [row["name"] for row in train["rows"]] == ["reference, float32", "fast, bfloat16"]
    assert train["matrix_rate"] > 0
    work = [row["flops_per_second"] * row["processor_seconds"] for row in train["rows"]]
    assert work[0] == pytest.approx(work[1])
    names = [row["name"] for row in phases["rows"]]
    assert names[:4] == ["whole step", "data", "teacher", "student"]
    assert {"visual_focus", "semantic_contrast", "soft_logits", "cross_entropy", "backward"} < set(names)
    assert sum(row["seconds"]["median"] for row in phases["rows"][1:]) <= phases["rows"][0]["seconds"]["median"]


@pytest.mark.long
@pytest.mark.parametrize("recipe", ["abinet_ltr", "matrn_ltr", "parseq_ltr"])
def test_recipes_whose_teacher_is_not_at_hand_are_measured_with_random_weights(tmp_path, recipe):
    (train,) = measure(tmp_path, sections=("train",), recipes=(recipe,), batch_size=2)
    assert "random weights" in train["title"]


@pytest.mark.parametrize(
    ("mistake", "said"),
    [({"repeats": 0}, "at least 1"), ({"recipes": ("matrn_supervised",)}, "matrn_supervised: expected some of parseq")],
)
def test_what_cannot_be_measured_is_refused(tmp_path, mistake, said):
    with pytest.raises(ValueError, match=said):
        main(BenchmarkConfig(output=tmp_path, **mistake))
