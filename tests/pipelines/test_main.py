"""``kdltr VERB``: the scripts by one name."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import kdltr_core
import pipelines
from pipelines.__main__ import VERBS

SCRIPTS = {path.stem for path in Path(pipelines.__path__[0]).glob("*.py")}
SCRIPTS -= {"__init__", "__main__", "recipes"}


def kdltr(*words: str) -> tuple[int, str, str]:
    answer = subprocess.run([sys.executable, "-m", "pipelines", *words], capture_output=True, text=True)
    return answer.returncode, answer.stdout, answer.stderr


def test_every_script_has_a_verb() -> None:
    assert {module for module, _ in VERBS.values()} == SCRIPTS


def test_a_verb_takes_what_its_script_takes() -> None:
    code, out, _ = kdltr("predict", "--help")
    assert code == 0
    assert out.startswith("usage: kdltr predict ")
    assert "STUDENT] [IMAGE …]" in out
    code, _, err = kdltr("train", "demoo")
    assert (code, err.startswith("error: there is no recipe 'demoo'")) == (2, True)


@pytest.mark.parametrize("words", [(), ("--help",)])
def test_without_a_verb_all_are_listed(words: tuple[str, ...]) -> None:
    code, out, _ = kdltr(*words)
    assert code == 0
    assert all(f"  {verb} " in out for verb in VERBS)


def test_another_verb_is_refused_with_the_nearest() -> None:
    code, _, err = kdltr("trian")
    assert (code, err.count("\n")) == (2, 1)
    assert "there is no command 'trian'; did you mean 'train'?" in err


def test_a_shell_completes_verbs_options_and_recipes(tmp_path: Path) -> None:
    """As bash itself answers, with the script that is printed."""
    code, script, _ = kdltr("--completion", "bash")
    assert code == 0
    typed = {"kdltr pre": "predict", "kdltr predict --det": "--detect", "kdltr train dem": "demo"}
    for line, expected in typed.items():
        words = line.split()
        ask = f'COMP_WORDS=({line}); COMP_CWORD={len(words) - 1}; _kdltr; echo "${{COMPREPLY[@]}}"'
        answer = subprocess.run(["bash", "-c", f"{script}\n{ask}"], capture_output=True, text=True, cwd=tmp_path)
        assert answer.stdout.split() == [expected], answer.stderr
    assert kdltr("--completion", "fish")[0] == 2


def test_its_version_is_that_of_the_package() -> None:
    assert kdltr("--version")[1] == f"kdltr {kdltr_core.__version__}\n"
