"""Trials of a population: they wait for one another, and go on from another's weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import filelock
import pytest
import torch

from kdltr_core.config import RunConfig
from kdltr_core.train.checkpoint import read_checkpoint
from pipelines.run.command_line import RunStopped
from pipelines.run.metrics_log import MetricsLog
from pipelines.sweep import trial
from pipelines.sweep.population import Copy
from pipelines.sweep.rounds import take_over
from pipelines.sweep.search import LedgerSearch
from pipelines.sweep.study import ERROR_FILE, INHERITED_FILE, Ledger
from pipelines.sweep.trial import BEST, PERCENT_DONE
from tests.kdltr_core.small import build_small
from tests.pipelines.sweep.test_trial import tiny_run

SOFT, RATE = "objective.soft_logits", "optim.learning_rate"
POINTS = [{SOFT: 20.0, RATE: 1e-3}, {SOFT: 2.0, RATE: 1e-2}]
COPY = Copy(1, 0, {SOFT: 24.0, RATE: 8e-4})


def train_to(percent: float, ledger: Ledger, config: RunConfig, reports: list[dict[str, Any]]) -> LedgerSearch:
    """What Tune does: every trial that the search brings is run and its last report handed back."""
    settings = {"threads": 1, "workers": 0, "use_gpu": False, "benchmarks": False}
    search = LedgerSearch(ledger, config, POINTS, settings, until=percent)
    while isinstance(given := search.suggest(name := f"{percent} {len(reports)}"), dict):
        trial.run_trial(given)
        assert not (Path(given["folder"]) / ERROR_FILE).exists()
        search.on_trial_complete(name, reports[-1])
    return search


def test_what_a_trial_s_schedule_says_is_what_its_weights_were_trained_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Trained anew from the first step on, as best.yaml would have it, the weights are the same in every bit."""
    build_small(monkeypatch)
    reports: list[dict[str, Any]] = []
    monkeypatch.setattr(trial.tune, "report", reports.append)
    config = tiny_run(tmp_path).override({"num_steps": 4, "validate_every": 4, "optim.ema_decay": 0.5})
    ledger = Ledger(tmp_path / "trials", POINTS[0])
    train_to(50, ledger, config, reports)
    assert [(entry.percent, entry.state) for entry in ledger.entries] == [(50, None), (50, None)]
    assert [report[PERCENT_DONE] for report in reports] == [0, 50, 0, 50]
    take_over(ledger, COPY, 50)
    # The end of a trial clears its checkpoints away, which are what is compared here.
    monkeypatch.setattr("pipelines.sweep.search.shutil.rmtree", lambda *arguments, **named: None)
    train_to(100, ledger, config, reports)
    assert [entry.state for entry in ledger.entries] == ["FINISHED", "FINISHED"]

    copied = ledger.entries[1].to_trial()
    assert copied.recipe == {**POINTS[0], "changes": [f"50% {SOFT}=24.0 {RATE}=0.0008"]}
    assert copied.params == {SOFT: 24.0, RATE: 8e-4}
    assert copied.schedule == [(0.0, POINTS[0]), (50.0, {SOFT: 24.0, RATE: 8e-4})]
    assert copied.copied == ((50, 0),)
    anew = tmp_path / "anew"
    anew.mkdir()
    (anew / "config.yaml").write_text(config.override(dict(copied.recipe)).to_yaml())
    trial.run_trial({"folder": str(anew), "threads": 1, "workers": 0, "benchmarks": False, "until": 100})
    whole, joined, other = (
        read_checkpoint(folder / "checkpoints" / "step-00000004")
        for folder in (anew, ledger.entries[1].folder, ledger.entries[0].folder)
    )
    for part in ("distiller", "average"):
        assert all(torch.equal(weight, joined[part][name]) for name, weight in whole[part].items())
        assert not all(torch.equal(weight, other[part][name]) for name, weight in whole[part].items())


def fake_trial(ledger: Ledger, point: dict[str, Any], *accuracies: float) -> Path:
    """A trial that waits at its half, with a folder as ``fit`` leaves it."""
    entry = ledger.begin(point)
    for name in ("checkpoints/step-00000005", "student"):
        (entry.folder / name).mkdir(parents=True)
        (entry.folder / name / "of.txt").write_text(str(entry.number))
    metrics_log = MetricsLog(entry.folder / "metrics.jsonl")
    for step, accuracy in zip((0, 5), accuracies, strict=True):
        metrics_log.record(step, {"validation/word_accuracy": accuracy})
    ledger.wait(entry.number, 50)
    return entry.folder


def test_weights_student_and_figures_become_those_of_the_other_and_only_once(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path, POINTS[0])
    fake_trial(ledger, POINTS[0], 40.0, 60.0)
    folder = fake_trial(ledger, POINTS[1], 40.0, 50.0)
    (folder / "checkpoints/step-00000002").mkdir()
    take_over(ledger, COPY, 50)
    assert [path.name for path in (folder / "checkpoints").iterdir()] == ["step-00000005"]
    assert (folder / "checkpoints/step-00000005/of.txt").read_text() == "0"
    assert (folder / "student/of.txt").read_text() == "0"
    MetricsLog(folder / "metrics.jsonl").record(10, {"validation/word_accuracy": 55.0})
    ledger = Ledger(tmp_path, POINTS[0])
    entry = ledger.entries[1]
    assert entry.curve == ((0, 40.0), (5, 60.0), (10, 55.0))
    assert entry.accuracy == 60.0
    assert (entry.params, entry.copied) == (POINTS[1], ((50, 0),))

    (folder / "student/of.txt").write_text("trained on")
    take_over(ledger, COPY, 50)
    assert (folder / "student/of.txt").read_text() == "trained on"
    assert ledger.entries[1].copied == ((50, 0),)


def test_a_driver_that_was_killed_while_it_copied_leaves_nothing_half_done(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path, POINTS[0])
    fake_trial(ledger, POINTS[0], 40.0, 60.0)
    folder = fake_trial(ledger, POINTS[1], 40.0, 50.0)
    # Weights and figures are there, and of the student half.
    (folder / ".checkpoints.incoming").mkdir()
    (folder / "checkpoints/step-00000005/of.txt").write_text("0")
    (folder / INHERITED_FILE).write_text(json.dumps([[0, 40.0], [5, 60.0]]))
    take_over(Ledger(tmp_path, POINTS[0]), COPY, 50)
    assert (folder / "student/of.txt").read_text() == "0"
    assert Ledger(tmp_path, POINTS[0]).entries[1].point == {SOFT: 24.0, RATE: 8e-4}
    assert not list(folder.glob(".*.incoming"))


def test_a_folder_in_which_another_process_trains_is_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipelines.sweep.rounds.SECONDS_FOR_OTHERS", 0.1)
    ledger = Ledger(tmp_path, POINTS[0])
    fake_trial(ledger, POINTS[0], 40.0, 60.0)
    folder = fake_trial(ledger, POINTS[1], 40.0, 50.0)
    with filelock.FileLock(folder / ".lock"), pytest.raises(RunStopped, match=r"another process .* in .*0001"):
        take_over(ledger, COPY, 50)
    assert (folder / "student/of.txt").read_text() == "1"
    take_over(ledger, COPY, 50)
    assert (folder / "student/of.txt").read_text() == "0"


def test_trials_that_wait_are_brought_in_the_next_round_and_not_in_this_one(tmp_path: Path) -> None:
    config = RunConfig().override({"name": "sweep", "num_steps": 10})
    fake_trial(Ledger(tmp_path, POINTS[0]), POINTS[0], 40.0, 60.0)

    def brought(until: float) -> list[str]:
        search = LedgerSearch(Ledger(tmp_path, POINTS[0]), config, POINTS, {}, until=until)
        names = []
        while isinstance(given := search.suggest(str(len(names))), dict):
            names.append(Path(given["folder"]).name)
        return names

    assert brought(50) == ["0001"]
    assert brought(100) == ["0000", "0001"]


def test_of_a_trial_that_stopped_before_its_round_s_end_it_is_not_said_that_it_waits(tmp_path: Path) -> None:
    config = RunConfig().override({"name": "sweep", "num_steps": 10})
    for percent, state in ((49.9, "PRUNED"), (50.0, None)):
        ledger = Ledger(tmp_path / str(percent), POINTS[0])
        search = LedgerSearch(ledger, config, POINTS, {}, until=50.0)
        search.suggest("a")
        search.on_trial_complete("a", {PERCENT_DONE: percent, BEST: 1.0})
        assert ledger.entries[0].state == state
        assert len(ledger.arrived(50.0)) == 1
