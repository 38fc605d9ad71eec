"""pretrain_language.py: from a list of words to the file that a recognizer starts with."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from kdltr_core.config import RunConfig
from kdltr_core.train.build import build_pair
from pipelines.pretrain_language import main
from pipelines.run.command_line import answer_mistakes


def run(*arguments: object, monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(sys, "argv", ["pretrain_language.py", *map(str, arguments)])
    return answer_mistakes(main)


def test_what_it_makes_is_what_an_abinet_starts_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "words.txt").write_text("\n".join(f"word{chr(97 + i)}" for i in range(25)))
    arguments = ("--words", tmp_path / "words.txt", "--output-folder", tmp_path / "language", "--batch-size", 2)
    assert run(*arguments, "--num-steps", 1, monkeypatch=monkeypatch) == 0
    captured = capsys.readouterr()
    file = tmp_path / "language" / "language.safetensors"
    assert captured.out.startswith(f"{file}: ")
    assert "wrong predictions of held-out words corrected" in captured.out

    data = {"num_rendered_train": 64, "num_rendered_benchmark": 16, "cache_folder": str(tmp_path / "cache")}
    config = RunConfig().override(
        {
            "recognizer.name": "abinet",
            "recognizer.student_start": "random",
            "recognizer.language_weights": str(file),
            "objective.name": "supervised",
            **{f"data.{name}": value for name, value in data.items()},
        }
    )
    student, _ = build_pair(config, torch.device("cpu"))
    started = student.state_dict()
    assert all(torch.equal(value, started[f"language.{key}"]) for key, value in load_file(file).items())


def test_mistakes_are_one_sentence_and_exit_code_2(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for arguments, sentence in (
        (("--words", tmp_path / "nowhere.txt"), "give a file with one word a line"),
        (("--held-out-fraction", 0.7), "held_out_fraction is 0.7"),
        (("--num-steps", 0), "num_steps is 0"),
    ):
        assert run(*arguments, "--output-folder", tmp_path / "out", monkeypatch=monkeypatch) == 2
        message = capsys.readouterr().err
        assert sentence in message
        assert message.strip().splitlines()[-1].startswith("error: ")
    assert not (tmp_path / "out").exists()
