"""``pipelines/compare.py``: who is compared, what is kept of it, and the whole command on rendered words."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import pipelines
from kdltr_core import load_student
from kdltr_core.config import RunConfig
from kdltr_core.evaluation.table import STUDENT_LOW_RES, WordResult, write_predictions
from pipelines.run.metrics_log import MetricsLog
from pipelines.sweep.comparison_folder import CompareFolder
from pipelines.sweep.comparison_options import CompareOptions, parse_comparison
from pipelines.sweep.objectives import CONTENDERS, contender, runs
from pipelines.sweep.study import Ledger
from tests.pipelines.test_tune import tracked

COMPARE = Path(pipelines.__path__[0]) / "compare.py"
CONFIG = RunConfig(name="compared", num_steps=10)


@pytest.mark.parametrize("name", CONTENDERS)
def test_contenders_differ_in_the_objective_and_nothing_else(name: str) -> None:
    changed = CONFIG.override(contender(name, CONFIG)).flatten()
    differing = {field for field, value in CONFIG.flatten().items() if changed[field] != value}
    allowed = {"objective.name"} | ({"recognizer.student_start"} if name == "distillation_published" else set())
    assert differing <= allowed


def test_changes_follow_a_name_and_are_values_as_the_config_has_them() -> None:
    fields = contender("distillation+objective.cross-entropy=0.5+optim.ema_decay=0.9", CONFIG)
    assert fields == {"objective.name": "distillation", "objective.cross_entropy": 0.5, "optim.ema_decay": 0.9}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("dlt", "did you mean 'dld'"),
        ("dld+objective.guidance", r"\+field=value"),
        ("dld+objective.guidance=-1", "dld.* cannot be compared here"),
        ("dld+objective.guidence=1", "did you mean 'objective.guidance'"),
        ("dld+data.validation_fraction=0.1", "--data.validation-fraction"),
        ("dld+optim.batch_size=8", "--optim.batch-size"),
        ("dld+num_steps=8", "--num-steps"),
    ],
)
def test_what_cannot_be_compared_is_refused(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        contender(text, CONFIG)


def test_every_contender_has_every_seed_and_a_seed_is_done_by_all_before_the_next() -> None:
    asked = [
        (run.contender, run.fields["objective.name"], run.fields["seed"])
        for run in runs(("dfd", "dld"), (3, 1), CONFIG)
    ]
    assert asked == [("dfd", "dfd", 3), ("dld", "dld", 3), ("dfd", "dfd", 1), ("dld", "dld", 1)]


def test_two_names_of_one_thing_are_refused() -> None:
    with pytest.raises(ValueError, match="which are the same"):
        runs(("dfd", "dfd+objective.guidance=1.0"), (0,), CONFIG)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--objectives", "dfd", "--reference", "dld"], "is none of --objectives dfd"),
        (["--seeds", "1", "1"], "expected different ones"),
        (["--seeds", "one"], "--seeds is"),
        (["--objectives"], "--objectives names nothing"),
        (["--objective", "dfd"], "did you mean '--objectives'"),
        (["--cpus-per-trial", "1", "2"], "takes one value"),
    ],
)
def test_mistakes_on_the_command_line_are_told(words: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse_comparison(["demo", *words], "compare.py", "")


def test_own_options_and_those_of_the_run_may_come_in_any_order() -> None:
    words = ["demo", "--seeds", "2", "5", "--num-steps", "7", "--objectives=dld", "--optim.batch-size=16"]
    options, config = parse_comparison(words, "compare.py", "")
    assert (options.seeds, options.objectives, options.against) == ((2, 5), ("dld",), "dld")
    assert (config.num_steps, config.optim.batch_size, config.name) == (7, 16, "demo-compared")


def folder_of(tmp_path: Path, objectives: tuple[str, ...], num_steps: int = 10) -> CompareFolder:
    config = CONFIG.override({"output_folder": str(tmp_path), "num_steps": num_steps})
    options = CompareOptions(objectives=objectives, seeds=(0, 1))
    return CompareFolder(config, options, runs(objectives, (0, 1), config))


def finish(folder: CompareFolder, place: int, right: str, speeds: tuple[float, ...] = ()) -> None:
    """As a run leaves it: its readings of the benchmark and what it recorded."""
    entry = folder.runs.begin(folder.asked[place].fields)
    (entry.folder / "evaluation").mkdir()
    readings = [
        WordResult("s", i, str(i), "word", {STUDENT_LOW_RES: "word" if c == "1" else ""}) for i, c in enumerate(right)
    ]
    write_predictions(entry.folder / "evaluation" / "predictions.parquet", readings)
    for step, speed in enumerate(speeds, 1):
        MetricsLog(entry.folder / "metrics.jsonl").record(step, {"train/images_per_second": speed})
    folder.runs.end(entry.number, "FINISHED")


def test_what_the_runs_left_becomes_the_table_and_a_part_of_it_too(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, ("supervised", "dld"))
    with folder.claim():
        finish(folder, 0, "1100", (1.0, 40.0, 50.0))
        finish(folder, 1, "1110")
        finish(folder, 2, "1000", (60.0,))
        part = folder.write_report()
        assert (part.left_out, folder.num_missing) == (("dld",), 1)
        assert not folder.is_finished
        finish(folder, 3, "1111")
        whole = folder.write_report()
        folder.mark_finished()
    assert [c.accuracies for c in whole.contenders] == [(50.0, 25.0), (75.0, 100.0)]
    assert whole.contenders[0].images_per_second == (40.0, 60.0)  # the median, not spoilt by the first
    assert folder_of(tmp_path, ("supervised", "dld")).is_finished
    assert "dld" in folder.table.read_text()


def test_objectives_are_added_later_but_not_to_runs_of_another_length(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, ("supervised",))
    with folder.claim():
        finish(folder, 0, "1100")
        finish(folder, 1, "1100")
        folder.write_report()
        folder.mark_finished()
    more = folder_of(tmp_path, ("supervised", "dld"))
    assert (more.is_finished, more.num_missing) == (False, 2)
    with pytest.raises(ValueError, match="num_steps 10, now 11"):
        folder_of(tmp_path, ("supervised",), num_steps=11)


@pytest.mark.slow
@pytest.mark.long
def test_objectives_are_trained_alike_compared_and_none_is_trained_twice(tmp_path: Path) -> None:
    # fmt: off
    command = [
        sys.executable, str(COMPARE), "demo", "--objectives", "supervised", "dld", "--seeds", "0", "1",
        "--reference", "dld", "--workers", "1",
        "--num-steps", "2", "--optim.batch-size", "8", "--optim.warmup-steps", "0", "--log-every", "1",
        "--validate-every", "2", "--checkpoint-every", "2", "--objective.num-permutations", "2",
        "--data.num-rendered-train", "64", "--data.num-rendered-benchmark", "16", "--data.cache-folder", "cache",
    ]
    # fmt: on
    environment = {**os.environ, "RAY_ADDRESS": ""}
    first = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=1200)
    assert first.returncode == 0, first.stderr
    place = tmp_path / "runs" / "demo-compared"
    entries = Ledger(place / "runs", {}).ended
    assert [(e.params["objective.name"], e.params["seed"], e.state) for e in entries] == [
        ("supervised", 0, "FINISHED"), ("dld", 0, "FINISHED"), ("supervised", 1, "FINISHED"), ("dld", 1, "FINISHED"),
    ]  # fmt: skip
    configs = [RunConfig.from_yaml(entry.folder / "config.yaml").flatten() for entry in entries]
    differing = {name for name in configs[0] if len({str(config[name]) for config in configs}) > 1}
    assert differing == {"name", "objective.name", "seed"}
    assert (place / "report" / "comparison.md").read_text() in first.stdout
    assert callable(load_student(entries[0].folder))

    runs_of = tracked(tmp_path)
    assert {run.info.status for run in runs_of.values()} == {"FINISHED"}
    assert len(runs_of) == 5
    metrics = runs_of["demo-compared"].data.metrics
    assert 0 <= metrics["comparison/supervised/word_accuracy"] <= 100
    assert "comparison/supervised/gain" in metrics
    assert "comparison/dld/gain" not in metrics

    again = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=600)
    assert (again.returncode, "is finished" in again.stderr) == (0, True)
    written = [(entry.folder / "metrics.jsonl").stat().st_mtime_ns for entry in entries]
    more = [*command[:5], "a_skd", *command[5:]]
    third = subprocess.run(more, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=1200)
    assert third.returncode == 0, third.stderr
    assert [(entry.folder / "metrics.jsonl").stat().st_mtime_ns for entry in entries] == written
    assert "a_skd" in (place / "report" / "comparison.md").read_text()
