"""Completion of ``kdltr`` in a shell: verbs, their options, recipes, files.  eval "$(kdltr --completion bash)" """

from __future__ import annotations

import io
import re
import sys
from collections.abc import Mapping
from contextlib import redirect_stdout, suppress
from importlib import import_module

from pipelines.recipes import RECIPES

SHELLS = {"bash": "", "zsh": "autoload -Uz bashcompinit && bashcompinit\n"}
_WITH_RECIPE = ("train", "tune", "compare")
_SCRIPT = """_kdltr() {{
    local word=${{COMP_WORDS[COMP_CWORD]}} options=
    [ "$COMP_CWORD" -gt 1 ] || {{ COMPREPLY=($(compgen -W "{verbs}" -- "$word")); return; }}
    case ${{COMP_WORDS[1]}} in
{cases}
    esac
    case $word in
        -*) COMPREPLY=($(compgen -W "$options" -- "$word")) ;;
        *) COMPREPLY=($(compgen -f -W "$recipes" -- "$word")) ;;
    esac
}}
complete -o filenames -F _kdltr kdltr
"""


def print_completion(shell: str = "bash", *, scripts: Mapping[str, str]) -> int:
    """Prints the script that a shell evaluates.

    Args:
        scripts: the modules of this package by their verbs.

    Raises: ValueError for another shell.
    """
    if shell not in SHELLS:
        raise ValueError(f"there is no completion for {shell!r}; expected {' or '.join(SHELLS)}")
    cases = []
    for verb, module in scripts.items():
        recipes = f"; recipes={' '.join(RECIPES)!r}" if verb in _WITH_RECIPE else "; recipes="
        cases.append(f"        {verb}) options={' '.join(_options(module))!r}{recipes} ;;")
    print(SHELLS[shell] + _SCRIPT.format(verbs=" ".join(scripts), cases="\n".join(cases)))
    return 0


def _options(module: str) -> list[str]:
    """Those that its ``--help`` names at the beginning of a line."""
    sys.argv = [module, "--help"]
    with redirect_stdout(io.StringIO()) as shown, suppress(SystemExit):
        import_module(f"pipelines.{module}").main()
    return list(dict.fromkeys(re.findall(r"^[│ ]*(?:-h, )?(--[a-z][\w.-]*)", shown.getvalue(), re.MULTILINE)))
