"""Whose folder it is: a name is one run, begun with one config, written by one process at a time."""

from __future__ import annotations

from pathlib import Path

import pytest

from kdltr_core.config import RunConfig
from pipelines.run.folder import RunFolder


def config(folder: Path, **changes: object) -> RunConfig:
    return RunConfig(name="first", output_folder=str(folder)).override(changes)


def begin(folder: Path, with_checkpoint: bool = True) -> RunFolder:
    run = RunFolder(config(folder))
    with run.claim():
        (run.path / "metrics.jsonl").write_text("")
        (run.path / "tracking.json").write_text("{}")
        if with_checkpoint:
            (run.path / "checkpoints" / "step-00000400").mkdir(parents=True)
    return run


@pytest.mark.parametrize(
    "changes",
    [
        {"num_steps": 900},
        {"num_epochs": 3.0},
        {"workers": 2},
        {"tracking_uri": ""},
        {"experiment": "another"},
        {"data.num_loader_threads": 4},
        {"data.placement": "device"},
    ],
)
def test_a_run_goes_on_where_only_its_length_its_workers_or_its_tracking_differ(
    tmp_path: Path, changes: dict[str, object]
) -> None:
    begin(tmp_path)
    assert RunFolder(config(tmp_path, **changes)).has_begun


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("seed", 1, "seed 0, now 1"),
        ("optim.learning_rate", 1e-3, "optim.learning_rate 5e-05, now 0.001"),
        ("data.train_roots", ("/a",), r"data.train_roots \[\], now \['/a'\]"),
        ("objective.name", "supervised", "objective.name 'distillation', now 'supervised'"),
    ],
)
def test_another_config_under_the_same_name_is_refused(tmp_path: Path, field: str, value: object, said: str) -> None:
    begin(tmp_path)
    with pytest.raises(ValueError, match=f"{said}.*another --name"):
        RunFolder(config(tmp_path, **{field: value}))


def test_a_config_may_be_corrected_until_there_is_a_checkpoint(tmp_path: Path) -> None:
    """And what was recorded of the abandoned start is not mixed into the new one."""
    begin(tmp_path, with_checkpoint=False)
    run = RunFolder(config(tmp_path, seed=1))
    with run.claim():
        assert not (run.path / "metrics.jsonl").exists()
        assert not (run.path / "tracking.json").exists()
        assert RunConfig.from_yaml(run.path / "config.yaml").seed == 1


def test_finished_means_read_to_the_end_with_as_many_steps(tmp_path: Path) -> None:
    run = begin(tmp_path)
    assert not run.is_finished
    run.mark_finished()
    assert not run.is_finished  # without a table
    run.table.parent.mkdir()
    run.table.write_text("|")
    assert run.is_finished
    assert not RunFolder(config(tmp_path, num_steps=1000)).is_finished


def test_two_processes_do_not_write_in_one_folder(tmp_path: Path) -> None:
    run = begin(tmp_path)
    with (
        run.claim(),
        pytest.raises(ValueError, match="another process is training"),
        RunFolder(config(tmp_path)).claim(),
    ):
        pass


@pytest.mark.parametrize("name", ["a/b", "..", " ", "a\nb"])
def test_a_name_is_a_folder_name(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match="not a folder name"):
        RunFolder(config(tmp_path, name=name))
