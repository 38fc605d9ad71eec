"""The rules of the house: which room may import which, and what a file may look like."""

from __future__ import annotations

import ast
import io
import re
import shutil
import subprocess
import tokenize
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
WINGS = ("kdltr_core", "tune_spaces", "pipelines")
SOURCES = sorted(path.relative_to(ROOT).as_posix() for wing in WINGS for path in (ROOT / wing).rglob("*.py"))
TESTS = sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "tests").rglob("*.py"))

# Files, or rooms that end in a slash.
RAY_SEAMS = ("pipelines/ray_train/", "pipelines/sweep/", "pipelines/service/", "pipelines/prediction/cluster.py")
RAY_SEAMS += ("pipelines/train.py", "pipelines/tune.py", "pipelines/watch.py")
MLFLOW_SEAMS = ("pipelines/run/tracking.py", "pipelines/exporting/")
VERBS = {"train.py", "tune.py", "evaluate.py", "predict.py", "prepare_data.py", "export.py", "benchmark.py"}
VERBS |= {"pretrain_language.py", "loss_curves.py", "scaling.py", "serve.py", "load_test.py", "compare.py"}
VAGUE_NAMES = {"utils", "util", "helpers", "helper", "misc", "common"}

FORBIDDEN = {
    "kdltr_core": {"ray", "mlflow", "tyro", "tqdm", "argparse", "pipelines", "tune_spaces"},
    "tune_spaces": {"torch", "mlflow", "pipelines"},
    "pipelines": set(),
}
MACHINE_PATH = re.compile(r"(?<![\w.])/(work|home|Users|root)/")


def imported(source: str) -> Iterator[str]:
    """Dotted names of all modules that a source imports, inside functions too, relative ones as ``.name``."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            module = "." * node.level + (node.module or "")
            yield from (f"{module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
            called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            if called in ("import_module", "__import__"):
                yield str(node.args[0].value)


def import_faults(path: str, source: str) -> list[str]:
    """What a file of the three wings imports and may not."""
    wing = path.split("/")[0]
    forbidden = set(FORBIDDEN[wing])
    if wing == "pipelines":
        forbidden |= set() if path.startswith(RAY_SEAMS) else {"ray"}
        forbidden |= set() if path.startswith(MLFLOW_SEAMS) else {"mlflow"}
    found = set()
    for module in imported(source):
        top = module.split(".")[0]
        if wing == "tune_spaces" and top == "kdltr_core" and not module.startswith("kdltr_core.config"):
            found.add(f"imports {module}; of kdltr_core only config is for tune_spaces")
        if top in forbidden:
            found.add(f"imports {top}")
    return sorted(found)


def print_calls(source: str) -> list[int]:
    """Lines on which ``print`` is called."""
    calls = (node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call))
    return [call.lineno for call in calls if isinstance(call.func, ast.Name) and call.func.id == "print"]


def lone_lr(source: str) -> list[int]:
    """Lines on which the token ``lr`` is a name of ours. The keyword that torch's optimisers ask for is not."""
    keywords, lines = set(), set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.keyword) and node.arg == "lr":
            keywords.add((node.lineno, node.col_offset))
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.NAME and token.string == "lr" and token.start not in keywords:
            lines.add(token.start[0])
    return sorted(lines)


def read(path: str) -> str:
    return (ROOT / path).read_text(encoding="utf-8")


@pytest.mark.parametrize("path", SOURCES)
def test_imports_go_one_way(path: str) -> None:
    assert import_faults(path, read(path)) == []


@pytest.mark.parametrize("path", [path for path in SOURCES if path.startswith("kdltr_core")])
def test_the_core_does_not_print(path: str) -> None:
    assert print_calls(read(path)) == []


@pytest.mark.parametrize("path", [*SOURCES, *TESTS])
def test_the_token_lr_is_no_name(path: str) -> None:
    assert lone_lr(read(path)) == []


@pytest.mark.parametrize("path", [*SOURCES, *TESTS])
def test_a_module_says_what_it_is(path: str) -> None:
    assert Path(path).stem not in VAGUE_NAMES


@pytest.mark.parametrize("path", [path for path in SOURCES if Path(path).name in VERBS and path.startswith("pipe")])
def test_a_verb_has_at_most_120_lines(path: str) -> None:
    assert len(read(path).splitlines()) <= 120


def tracked_texts() -> list[str]:
    """Tracked files that are text; outside a git checkout, the Python files."""
    names: list[str] = []
    if shutil.which("git"):
        listing = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False)
        names = [name for name in listing.stdout.split("\0") if name]
    names = names or [*SOURCES, *TESTS]
    return [name for name in names if (ROOT / name).is_file() and b"\0" not in (ROOT / name).read_bytes()[:8192]]


@pytest.mark.parametrize("path", tracked_texts())
def test_no_file_names_a_path_of_one_machine(path: str) -> None:
    found = [number for number, line in enumerate(read(path).splitlines(), 1) if MACHINE_PATH.search(line)]
    assert found == []


@pytest.mark.parametrize(
    ("path", "source", "fault"),
    [
        ("kdltr_core/train/engine.py", "import ray", "imports ray"),
        ("kdltr_core/train/engine.py", "import ray.train.torch as rt", "imports ray"),
        ("kdltr_core/data/dataset.py", "def f():\n    from tqdm import tqdm", "imports tqdm"),
        ("kdltr_core/data/dataset.py", "try:\n    import mlflow\nexcept ImportError:\n    pass", "imports mlflow"),
        ("kdltr_core/config.py", "from pipelines.recipes import demo", "imports pipelines"),
        ("kdltr_core/config.py", "import importlib\nimportlib.import_module('argparse')", "imports argparse"),
        ("tune_spaces/joint.py", "from torch import nn", "imports torch"),
        ("tune_spaces/joint.py", "import pipelines", "imports pipelines"),
        ("pipelines/evaluate.py", "from ray import train", "imports ray"),
        ("pipelines/train.py", "import mlflow", "imports mlflow"),
    ],
)
def test_the_walker_sees_a_forbidden_import(path: str, source: str, fault: str) -> None:
    assert import_faults(path, source) == [fault]


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("kdltr_core/train/engine.py", "import torch\nfrom kdltr_core.data import batch"),
        ("kdltr_core/train/engine.py", "import array\nfrom rays import beam  # ray"),
        (
            "tune_spaces/joint.py",
            "from ray import tune\nfrom kdltr_core.config import RunConfig\nfrom kdltr_core import config",
        ),
        ("pipelines/ray_train/worker.py", "import ray\nfrom tune_spaces import joint"),
        ("pipelines/run/tracking.py", "import mlflow"),
    ],
)
def test_the_walker_lets_an_allowed_import_pass(path: str, source: str) -> None:
    assert import_faults(path, source) == []


def test_tune_spaces_takes_nothing_of_the_core_but_its_config() -> None:
    assert import_faults("tune_spaces/joint.py", "from kdltr_core import engine") != []
    assert import_faults("tune_spaces/joint.py", "import kdltr_core.train.engine") != []


@pytest.mark.parametrize(
    ("source", "lines"),
    [
        ("print('x')", [1]),
        ("def f():\n    if True:\n        print()", [3]),
        ("# print()\nx = 'print()'\nprinter.print(x)\npprint(x)", []),
    ],
)
def test_the_walker_sees_a_print(source: str, lines: list[int]) -> None:
    assert print_calls(source) == lines


@pytest.mark.parametrize(
    ("source", "lines"),
    [
        ("lr = 1", [1]),
        ("def f(a, lr): ...", [1]),
        ("x = config.lr", [1]),
        ("f(1,\n  rate=lr)", [2]),
        ("Adam(weights, lr=learning_rate)", []),
        ("low_lr = 1  # lr\ngroup['lr'] = low_lr", []),
    ],
)
def test_the_walker_sees_the_token_lr(source: str, lines: list[int]) -> None:
    assert lone_lr(source) == lines


@pytest.mark.parametrize("line", ["/" + "work/main/x", "open('/" + "home/ann/x')", "/" + "root/.cache"])
def test_the_walker_sees_a_path_of_one_machine(line: str) -> None:
    assert MACHINE_PATH.search(line)


def test_every_package_is_installed() -> None:
    """An editable installation works without this list; a wheel does not."""
    from setuptools import find_packages

    found = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]["find"]
    listed = set(find_packages(str(ROOT), include=found["include"]))
    assert listed == {path.parent.relative_to(ROOT).as_posix().replace("/", ".") for wing in WINGS
                      for path in (ROOT / wing).rglob("__init__.py")}  # fmt: skip
