"""Whose folder it is: a name is one run, begun with one config and on one set of words, written by one driver."""

from __future__ import annotations

from pathlib import Path

import pytest

from kdltr_core.config import RunConfig
from kdltr_core.train.checkpoint import CheckpointStore
from pipelines.run.folder import RunFolder

WORDS = {"train IC13": "abc", "benchmark SVT": "def"}


@pytest.fixture(params=["folder", pytest.param("bucket", marks=pytest.mark.slow)])
def output(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Where run folders are made."""
    return str(tmp_path) if request.param == "folder" else f"{request.getfixturevalue('bucket').uri}/runs"


def config(output: str, **changes: object) -> RunConfig:
    return RunConfig(name="first", output_folder=output).override(changes)


def begin(output: str, with_checkpoint: bool = True) -> RunFolder:
    run = RunFolder(config(output))
    with run.claim():
        run.claim_data(WORDS)
        for name in ("metrics.jsonl", "tracking.json"):
            (run.path / name).write_text("{}")
            run.keep(name)
        if with_checkpoint:
            state = {"step": 400}
            run.storage.send(CheckpointStore(run.path / "checkpoints", 2).save(400, state, 400), 400)
    return run


@pytest.mark.parametrize(
    "changes",
    [
        {"num_steps": 900},
        {"workers": 2},
        {"experiment": "another"},
    ],
)
def test_a_run_goes_on_where_only_its_length_its_workers_or_its_tracking_differ(
    tmp_path: Path, changes: dict[str, object]
) -> None:
    begin(str(tmp_path))
    assert RunFolder(config(str(tmp_path), **changes)).has_begun


def test_neither_another_config_nor_other_words_are_let_in(output: str) -> None:
    begin(output)
    with pytest.raises(ValueError, match=r"the run in .*first was begun with seed 0, now 1\..*another --name"):
        RunFolder(config(output, seed=1))
    run = RunFolder(config(output))
    with pytest.raises(ValueError, match=r"train IC13 of fingerprint abc, now xyz\. Give another --name"):
        run.claim_data(WORDS | {"train IC13": "xyz"})
    run.claim_data(WORDS)


def test_a_config_may_be_corrected_until_there_is_a_checkpoint(output: str) -> None:
    """And what was recorded of the abandoned start is not mixed into the new one."""
    begin(output, with_checkpoint=False)
    with RunFolder(config(output, seed=1)).claim():
        run = RunFolder(config(output, seed=1))
        assert not any((run.path / name).exists() for name in ("metrics.jsonl", "tracking.json", "data.json"))
        assert RunConfig.from_yaml(run.path / "config.yaml").seed == 1
        run.claim_data({"train IC13": "xyz"})


def test_finished_means_read_to_the_end_with_as_many_steps(output: str) -> None:
    run = begin(output)
    assert not run.is_finished
    run.mark_finished()
    assert not run.is_finished  # without a table
    run.table.parent.mkdir()
    run.table.write_text("|")
    run.keep("evaluation")
    assert RunFolder(config(output)).is_finished
    assert RunFolder(config(output)).table.read_text() == "|"
    assert not RunFolder(config(output, num_steps=1000)).is_finished
    with RunFolder(config(output)).claim():
        again = RunFolder(config(output))
        assert (again.is_finished, again.has_begun, (again.path / "metrics.jsonl").exists()) == (False, True, True)


def test_two_drivers_do_not_write_in_one_folder(output: str) -> None:
    run = begin(output)
    with (
        run.claim(),
        pytest.raises(ValueError, match=r"is training in .*/first; wait for it, or give another --name"),
        RunFolder(config(output)).claim(),
    ):
        pass


def test_what_lies_beside_the_checkpoints_and_a_damaged_file_end_nothing(tmp_path: Path) -> None:
    run = begin(str(tmp_path))
    (run.path / "checkpoints" / "step-00000004.bak").mkdir()
    (run.path / "finished.json").write_text('{"num_st')
    again = RunFolder(config(str(tmp_path)))
    assert (again.storage.steps(), again.is_finished) == ([400], False)
    again.claim_data(WORDS)


@pytest.mark.parametrize("name", ["a/b", "..", " ", "a\nb"])
def test_a_name_is_a_folder_name(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match="not a folder name"):
        RunFolder(config(str(tmp_path), name=name))
