"""What a person at the terminal is told of trials."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipelines.run.metrics_log import MetricsLog
from pipelines.sweep.progress import SweepProgress, headline, told
from pipelines.sweep.study import Ledger


def try_point(ledger: Ledger, value: float, accuracy: float) -> int:
    entry = ledger.begin({"objective.soft_logits": value, "optim.schedule": "step"})
    MetricsLog(entry.folder / "metrics.jsonl").record(0, {"validation/word_accuracy": accuracy})
    return entry.number


def test_the_bar_says_how_many_run_and_which_is_the_best_of_those_that_came_to_their_end(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path, {})
    assert headline(ledger) == "0 running"
    for value, accuracy, state in ((1.0, 70.0, "FINISHED"), (2.0, 99.0, "PRUNED"), (3.0, 70.0, "FINISHED")):
        ledger.end(try_point(ledger, value, accuracy), state)  # type: ignore[arg-type]
    try_point(ledger, 4.0, 98.0)
    assert headline(ledger) == "1 running, best 70.00 % (0)"


def test_each_trial_that_ends_is_told_once_and_those_of_an_earlier_driver_not_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ledger = Ledger(tmp_path, {})
    ledger.end(try_point(ledger, 1.0, 70.0), "FINISHED")
    ledger = Ledger(tmp_path, {})
    progress = SweepProgress("trial", 3)
    progress.start(ledger)
    ledger.on_change = progress
    ledger.end(try_point(ledger, 2.0, 60.0), "PRUNED")
    ledger.end(ledger.begin({"objective.soft_logits": 3.0}).number, "FAILED", "ValueError: no such file")
    progress.close()
    assert capsys.readouterr().err.strip().splitlines() == [
        "trial 1 pruned, 60.00 % (soft_logits 2, schedule step)",
        "trial 2 failed, nothing read (soft_logits 3): ValueError: no such file",
    ]


def test_a_trial_is_told_with_its_point(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path, {})
    entry = ledger.end(try_point(ledger, 0.123456, 70.0), "FINISHED")
    assert told(entry) == "finished, 70.00 % (soft_logits 0.1235, schedule step)"
