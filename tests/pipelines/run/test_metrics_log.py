"""The metrics log of a run keeps every point once, whatever ends the process that writes it."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipelines.run.metrics_log import AnotherWriter, MetricsLog, Record, read_records


def points(path: Path, name: str) -> list[tuple[int, float]]:
    return [(r.step, r.metrics[name]) for r in read_records(path)[0] if name in r.metrics]


def test_steps_trained_again_after_a_crash_are_not_recorded_again(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    first = MetricsLog(path)
    for step in (10, 20, 30):
        first.record(step, {"train/loss": step})
    first.record(20, {"validation/word_accuracy": 50.0})
    again = MetricsLog(path)
    for step in (20, 30, 40):
        again.record(step, {"train/loss": -step})
    again.record(40, {"validation/word_accuracy": 60.0})
    assert points(path, "train/loss") == [(10, 10), (20, 20), (30, 30), (40, -40)]
    assert points(path, "validation/word_accuracy") == [(20, 50.0), (40, 60.0)]


def test_a_line_that_a_crash_cut_off_is_dropped_and_its_step_recorded_anew(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    MetricsLog(path).record(1, {"train/loss": 1.0})
    with path.open("a") as file:
        file.write('{"step": 2, "time": 3, "met')
    assert len(read_records(path)[0]) == 1
    MetricsLog(path).record(2, {"train/loss": 2.0})
    assert points(path, "train/loss") == [(1, 1.0), (2, 2.0)]


def test_reading_goes_on_from_an_offset(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    assert read_records(path) == ([], 0)
    metrics_log = MetricsLog(path)
    for step in range(1, 6):
        metrics_log.record(step, {"train/loss": 0.0})
    head, offset = read_records(path, limit=2)
    tail, end = read_records(path, offset)
    assert [r.step for r in head + tail] == [1, 2, 3, 4, 5]
    assert end == path.stat().st_size


def test_lines_wait_in_memory_while_the_disk_is_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "metrics.jsonl"
    metrics_log = MetricsLog(path)
    metrics_log.record(1, {"train/loss": 1.0})
    real_open = Path.open

    def full(self: Path, mode: str = "r", *rest: object, **more: object) -> object:
        if mode != "ab":
            return real_open(self, mode, *rest, **more)  # type: ignore[call-overload]
        with real_open(self, "ab") as file:
            file.write(b'{"half a line')
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "open", full)
    metrics_log.record(2, {"train/loss": 2.0})
    monkeypatch.undo()
    assert points(path, "train/loss") == [(1, 1.0)]
    metrics_log.record(3, {"train/loss": 3.0})
    assert points(path, "train/loss") == [(1, 1.0), (2, 2.0), (3, 3.0)]


def test_lines_that_are_none_are_passed_over_and_a_log_that_was_deleted_begins_anew(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    metrics_log = MetricsLog(path)
    metrics_log.record(1, {"train/loss": 1.0})
    with path.open("ab") as file:
        file.write(b"\xff\x00 junk\n[1, 2]\n" + b'{"step": 2, "time": 3, "metrics": {"train/loss": 2.0}, "newer": 1}\n')
    metrics_log = MetricsLog(path)
    metrics_log.record(3, {"train/loss": 3.0})
    assert points(path, "train/loss") == [(1, 1.0), (2, 2.0), (3, 3.0)]
    sent = path.stat().st_size
    path.unlink()
    metrics_log.record(4, {"train/loss": 4.0})
    assert [record.step for record in read_records(path, sent)[0]] == [4]


def test_a_note_is_no_point_on_a_curve_and_stands_where_the_run_was(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    MetricsLog(path).record(7, {"train/loss": 1.0})
    MetricsLog(path).note("resuming from step 6")
    last = read_records(path)[0][-1]
    assert last == Record(7, last.time, {}, "resuming from step 6")


def test_a_writer_that_was_taken_for_dead_leaves_the_journal_to_its_successor(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    first = MetricsLog(path)
    first.record(1, {"train/loss": 1.0})
    second = MetricsLog(path)
    second.record(2, {"train/loss": 2.0})
    with pytest.raises(AnotherWriter, match="another process writes"):
        first.record(2, {"train/loss": 2.0})
    second.record(3, {"train/loss": 3.0})
    assert points(path, "train/loss") == [(1, 1.0), (2, 2.0), (3, 3.0)]
