"""The command lines of tune.py and compare.py: what is taken, and what is refused in which words."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from pipelines.recipes import demo
from pipelines.run.command_line import parse_run_with
from pipelines.sweep.options import CompareOptions, parse_sweep


@pytest.fixture(autouse=True)
def _in_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_all_other_options_change_the_run_that_all_trials_vary(tmp_path: Path) -> None:
    words = "demo --space mine.py --num-steps 7 --optim.batch-size=16 --gpus-per-trial 0.25 --data.train-roots a b"
    options, config = parse_sweep(words.split(), "tune.py", "")
    roots = tuple(str(tmp_path / name) for name in "ab")
    assert (options.num_trials, options.gpus_per_trial) == (24, 0.25)
    assert options.space == str(tmp_path / "mine.py")  # found from any folder
    assert (config.num_steps, config.optim.batch_size) == (7, 16)
    changes = {"data.teacher_cache": "on", "data.train_roots": roots, "data.cache_folder": config.data.cache_folder}
    assert config.data == demo().override(changes).data


@pytest.mark.parametrize(
    ("words", "cache"),
    [
        ("", "on"),
        ("abinet_vision_ltr --recognizer.teacher-weights t.pt", "on"),
        ("--data.teacher-cache off", "off"),
        ("--data.teacher_cache=off", "off"),
        ("parseq_tiny_supervised", "off"),
        ("parseq_tiny_supervised --data.teacher-cache on", "on"),
    ],
)
def test_the_teacher_s_outputs_are_kept_where_it_sees_the_same_images_in_every_trial(words: str, cache: str) -> None:
    assert parse_sweep(words.split(), "tune.py", "")[1].data.teacher_cache == cache


@pytest.mark.parametrize(
    ("words", "name"),
    [
        ("", "parseq_tiny_ltr-loss_weights"),
        ("demo --space some/where/mine.py", "demo-mine"),
        ("demo --name again", "again"),
    ],
)
def test_a_sweep_is_named_after_run_and_space_unless_it_is_given_a_name(words: str, name: str) -> None:
    assert parse_sweep(words.split(), "tune.py", "")[1].name == name


parse_runs = partial(parse_run_with, CompareOptions)


@pytest.mark.parametrize(
    ("parse", "words", "said"),
    [
        (parse_sweep, "--num-trials 0", "--num-trials is 0"),
        (parse_sweep, "--gpus-per-trial 1.5", "--gpus-per-trial is 1.5: Input should be less than or equal to 1"),
        (parse_sweep, "demmo", "there is no recipe 'demmo'"),
        (parse_runs, "demo --seeds 1 1", "expected different ones"),
        (parse_runs, "demo --seeds -1", "expected different ones from 0 on"),
    ],
)
def test_a_mistake_is_named_with_the_way_out(parse: Callable[..., object], words: str, said: str) -> None:
    with pytest.raises(ValueError, match=re.escape(said)):
        parse(words.split(), "tune.py", "")
