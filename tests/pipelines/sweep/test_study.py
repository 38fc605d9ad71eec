"""The trials of a sweep, as their folders have them."""

from __future__ import annotations

from pathlib import Path

from pipelines.run.metrics_log import MetricsLog
from pipelines.sweep.study import ERROR_FILE, Ledger

OWN = {"objective.soft_logits": 20.0}


def read(folder: Path, **accuracies: float) -> None:
    metrics_log = MetricsLog(folder / "metrics.jsonl")
    for step, accuracy in accuracies.items():
        metrics_log.record(int(step.removeprefix("step_")), {"train/loss": 1.0, "validation/word_accuracy": accuracy})


def test_a_trial_is_written_down_before_it_begins(tmp_path: Path) -> None:
    """So that a driver that is killed at any time leaves no trial that the next one does not know."""
    Ledger(tmp_path, OWN).begin(OWN)
    (entry,) = Ledger(tmp_path, OWN).entries
    assert (entry.number, entry.params, entry.is_published, entry.state, entry.is_running) == (
        0,
        OWN,
        True,
        None,
        False,
    )


def test_what_was_found_is_there_for_the_next_driver(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path, OWN)
    for value, state in ((20.0, "FINISHED"), (30.0, "PRUNED"), (40.0, "FAILED")):
        entry = ledger.begin({"objective.soft_logits": value})
        read(entry.folder, step_0=50.0, step_10=70.0, step_20=60.0)
        ledger.end(entry.number, state, "RuntimeError: out" if state == "FAILED" else "")  # type: ignore[arg-type]
    trials = [entry.to_trial() for entry in Ledger(tmp_path, OWN).ended]
    assert [(t.number, t.state, t.error, t.is_published) for t in trials] == [
        (0, "FINISHED", "", True),
        (1, "PRUNED", "", False),
        (2, "FAILED", "RuntimeError: out", False),
    ]
    assert trials[0].value == 70.0  # the student that is kept is the best one, not the last
    assert trials[0].curve == ((0, 50.0), (10, 70.0), (20, 60.0))


def test_a_trial_that_was_left_open_goes_on_in_its_folder(tmp_path: Path) -> None:
    first = Ledger(tmp_path, OWN).begin({"objective.soft_logits": 0.1 + 0.2})
    ledger = Ledger(tmp_path, OWN)
    assert [entry.number for entry in ledger.open] == [0]
    assert ledger.begin({"objective.soft_logits": 5.0}).number == 1
    again = ledger.begin({"objective.soft_logits": 0.1 + 0.2})
    assert (again.number, again.folder, again.is_running) == (0, first.folder, True)
    assert ledger.open == []
    # The same point once more, while the first still runs, is a trial of its own.
    assert ledger.begin({"objective.soft_logits": 0.1 + 0.2}).number == 2


def test_what_failed_is_tried_again_unless_it_was_the_point_s_own_fault(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path, OWN)
    for value, error in ((1.0, "OutOfMemoryError: no room"), (2.0, "TrainingDiverged: not finite")):
        entry = ledger.begin({"objective.soft_logits": value})
        (entry.folder / ERROR_FILE).write_text(error)
        ledger.end(entry.number, "FAILED", error)
    ledger = Ledger(tmp_path, OWN)
    ledger.reopen_failed()
    assert [entry.number for entry in ledger.open] == [0]
    assert [entry.number for entry in ledger.ended] == [1]
    entry = ledger.begin({"objective.soft_logits": 1.0})
    assert entry.number == 0
    assert not (entry.folder / ERROR_FILE).exists()


def test_whoever_watches_is_told_of_every_beginning_and_end(tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    ledger = Ledger(tmp_path, OWN, lambda ledger: seen.append((len(ledger.entries), len(ledger.ended))))
    ledger.begin(OWN)
    ledger.begin({"objective.soft_logits": 3.0})
    ledger.end(1, "FINISHED")
    assert seen == [(1, 0), (2, 0), (2, 1)]
