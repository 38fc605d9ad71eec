"""The command line of train.py: what is taken, and what is refused in which words."""

from __future__ import annotations

import importlib.metadata
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import pipelines
from kdltr_core.config import RunConfig
from pipelines.recipes import parseq_tiny_ltr
from pipelines.run.command_line import RunStopped, answer_mistakes, parse_run

SCRIPTS = Path(pipelines.__path__[0])


@pytest.fixture(autouse=True)
def _in_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(
    ("words", "field", "expected"),
    [
        ("", "recipe", "parseq_tiny_ltr"),
        ("", "name", "parseq_tiny_ltr"),
        ("demo", "name", "demo"),
        ("demo --num-steps 12", "num_steps", 12),
        ("demo --num-steps None", "num_steps", None),
        ("demo --num_steps 12", "num_steps", 12),
        ("--optim.learning-rate 3e-5", "optim.learning_rate", 3e-5),
        ("--data.train-roots /a /b/c --workers 2", "data.train_roots", ["/a", "/b/c"]),
        ("--data.train-roots /a --data.train-roots /b", "data.train_roots", ["/b"]),
        ("--data.benchmark-roots gs://bucket/set?a=b", "data.benchmark_roots", ["gs://bucket/set?a=b"]),
        ("--output-folder file:///a/my%20runs", "output_folder", "/a/my runs"),
        ("demo --tracking-uri http://host:5000", "tracking_uri", "http://host:5000"),
    ],
)
def test_options_set_fields(words: str, field: str, expected: Any) -> None:
    assert parse_run(words.split(), "train.py", "").flatten()[field] == expected


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("demoo", "there is no recipe 'demoo'; recipes are "),
        ("nothing.yaml", "nothing.yaml cannot be read"),
        ("--optim.learning-rate -1", "--optim.learning-rate is -1.0: Input should be greater than 0"),
        ("--optim.batch-size 63 --workers 2", "nearest that does is 64"),
        ("--tracking-uri mlruns", "expected a server"),
        ("--data.cache-folder s3://bucket/cache", "--data.cache-folder is s3://bucket/cache, expected a path"),
    ],
)
def test_a_mistake_is_refused_in_one_sentence_with_the_way_out(
    words: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    def main() -> int:
        parse_run(words.split(), "train.py", "")
        return 0

    assert answer_mistakes(main) == 2
    message = capsys.readouterr().err
    assert said in message
    assert len(message.splitlines()) == 1


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("--optim.learnin-rate 3", "Perhaps you meant: --optim.learning-rate FLOAT"),
        ("--optim.learning-rate fast", "--optim.learning-rate: could not convert string to float: 'fast'"),
        (
            "--recognizer.name parsek",
            "'parsek' for argument '--recognizer.name'. Expected one of ('abinet_vision', 'abi",
        ),
    ],
)
def test_another_option_or_type_is_refused_with_what_is_near(
    words: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stop:
        parse_run(words.split(), "train.py", "")
    assert stop.value.code == 2
    assert said in " ".join(word for word in capsys.readouterr().err.replace("│", " ").split() if word.strip("─-"))


def test_paths_are_absolute_whatever_was_given(tmp_path: Path) -> None:
    words = "--data.train-roots words --recognizer.teacher-weights t.pt --recognizer.student-weights ~/s.pt"
    words += " --recognizer.name abinet --recognizer.language-weights l.pt"
    config = parse_run(words.split(), "train.py", "")
    assert config.recognizer.language_weights == str(tmp_path / "l.pt")
    assert config.data.train_roots == (str(tmp_path / "words"),)
    assert config.output_folder == str(tmp_path / "runs")
    assert config.recognizer.teacher_weights == str(tmp_path / "t.pt")
    assert config.recognizer.student_weights == str(Path.home() / "s.pt")
    assert config.data.cache_folder == str(Path.home() / ".cache" / "kdltr")
    assert config.tracking_uri == f"sqlite:///{tmp_path}/mlflow.db"


def test_a_written_config_is_taken_and_may_be_changed(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text(parseq_tiny_ltr().override({"seed": 7, "recipe": ""}).to_yaml())
    config = parse_run(["mine.yaml", "--workers", "2"], "train.py", "")
    assert (config.seed, config.workers, config.name) == (7, 2, "mine")
    (tmp_path / "mine.yaml").write_text("optim:\n  learningrate: 1\n")
    with pytest.raises(ValueError, match=r"optim\.learningrate.*did you mean 'optim\.learning_rate'"):
        parse_run(["mine.yaml"], "train.py", "")


def test_help_lists_every_field_with_its_meaning_and_the_recipes_default(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        parse_run(["demo", "--help"], "train.py", "About.")
    assert not stop.value.code
    text = " ".join(capsys.readouterr().out.replace("│", " ").split())
    for name in RunConfig().flatten():
        assert re.search(rf"--{name.replace('_', '-')}[ .]", text), name
    for section in (RunConfig, *(type(getattr(RunConfig(), s)) for s in ("data", "recognizer", "objective", "optim"))):
        for field in section.model_fields.values():
            assert (field.description or "") in text
    assert "data-parallel workers (Ray Train), and micro-batches of every batch (default: 2)" in text


def test_help_does_not_wait_for_torch_ray_or_mlflow() -> None:
    code = "import sys, pipelines.train; sys.exit(bool({'torch', 'ray', 'mlflow'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_a_copy_of_the_script_elsewhere_finds_the_installed_packages(tmp_path: Path) -> None:
    """``ray submit`` copies only the script, to the home of the head node."""
    (tmp_path / "train.py").write_text((SCRIPTS / "train.py").read_text())
    answer = subprocess.run([sys.executable, "train.py", "demoo"], cwd=tmp_path, capture_output=True, text=True)
    assert answer.returncode == 2
    assert answer.stderr.startswith("error: there is no recipe 'demoo'")


def test_no_script_hides_a_package_of_the_same_name() -> None:
    """A script's folder comes first on sys.path, so its neighbours' names must be nobody else's."""
    names = {path.stem for path in SCRIPTS.glob("*.py")} - {"__init__"}
    assert not names & set(sys.stdlib_module_names)
    assert not names & set(importlib.metadata.packages_distributions())


@pytest.mark.parametrize(("error", "code"), [(ValueError("x"), 2), (RunStopped("x"), 1), (KeyboardInterrupt(), 130)])
def test_exit_codes(error: BaseException, code: int, capsys: pytest.CaptureFixture[str]) -> None:
    def main() -> int:
        raise error

    assert answer_mistakes(main) == code
    assert "Traceback" not in capsys.readouterr().err


def test_output_is_written_whatever_the_terminal_can_show() -> None:
    program = "from pipelines.run.command_line import answer_mistakes; answer_mistakes(lambda: print('81 ± 2') or 0)"
    ended = subprocess.run(
        [sys.executable, "-c", program], env={**os.environ, "PYTHONIOENCODING": "ascii"}, capture_output=True
    )
    assert (ended.returncode, ended.stdout) == (0, b"81 \\xb1 2\n")


@pytest.mark.parametrize(
    ("given", "environment", "used"),
    [
        ((), "http://head:5000", "http://head:5000"),
        (("--tracking-uri", "http://other:5000"), "databricks", "http://other:5000"),
        (("--tracking-uri", ""), "http://head:5000", ""),
    ],
)
def test_the_server_of_the_machine_is_used_where_none_is_named(
    given: tuple[str, ...], environment: str, used: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", environment)
    assert parse_run(["demo", *given], "train.py", "About.").tracking_uri == used


def test_a_refusal_says_that_the_value_came_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "databricks")
    with pytest.raises(ValueError, match=r"--tracking-uri is 'databricks' \(from MLFLOW_TRACKING_URI; --tracking-uri"):
        parse_run(["demo"], "train.py", "About.")


@pytest.mark.parametrize("given_by", ["option", "environment"])
def test_a_run_knows_no_secret(monkeypatch: pytest.MonkeyPatch, given_by: str) -> None:
    """What is written of it can be read by everyone; this process alone has what the server wants."""
    uri = "https://me:hunter2@host:5000?token=hunter2"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri if given_by == "environment" else "")
    run = parse_run(["demo", *(["--tracking-uri", uri] if given_by == "option" else [])], "train.py", "About.")
    assert run.tracking_uri == "https://host:5000"
    assert os.environ["MLFLOW_TRACKING_URI"] == uri
    assert "hunter2" not in run.to_yaml() + str(run.flatten())
