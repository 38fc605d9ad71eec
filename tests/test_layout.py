"""The package layout: which package may import which, and what a file may look like."""

from __future__ import annotations

import ast
import io
import re
import shutil
import subprocess
import tokenize
import tomllib
from collections.abc import Callable, Iterable, Iterator
from graphlib import TopologicalSorter
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ("kdltr_core", "tune_spaces", "pipelines")
SOURCES = sorted(path.relative_to(ROOT).as_posix() for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
TESTS = sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "tests").rglob("*.py"))

# Files, or folders that end in a slash.
RAY_SEAMS = ("pipelines/ray_train/", "pipelines/sweep/", "pipelines/service/", "pipelines/prediction/cluster.py")
RAY_SEAMS += ("pipelines/train.py", "pipelines/tune.py")
MLFLOW_SEAMS = (
    "pipelines/run/tracking.py",
    "pipelines/run/logged_model.py",
    "pipelines/run/mlflow_model.py",
    "pipelines/exporting/",
    "pipelines/ui.py",
)
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
    """What a file of the three packages imports and may not."""
    package = path.split("/")[0]
    forbidden = set(FORBIDDEN[package])
    if package == "pipelines":
        forbidden |= set() if path.startswith(RAY_SEAMS) else {"ray"}
        forbidden |= set() if path.startswith(MLFLOW_SEAMS) else {"mlflow"}
    found = set()
    for module in imported(source):
        top = module.split(".")[0]
        if package == "tune_spaces" and top == "kdltr_core" and not module.startswith("kdltr_core.config"):
            found.add(f"imports {module}; of kdltr_core only config is for tune_spaces")
        if top in forbidden:
            found.add(f"imports {top}")
    return sorted(found)


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


def faults(paths: Iterable[str], find: Callable[[str, str], Any]) -> dict[str, Any]:
    """What a rule finds, by file; empty where all is well."""
    return {path: found for path in paths if (found := find(path, read(path)))}


def test_imports_go_one_way() -> None:
    assert faults(SOURCES, import_faults) == {}


def test_the_token_lr_is_no_name() -> None:
    assert faults([*SOURCES, *TESTS], lambda _, source: lone_lr(source)) == {}


def test_a_module_says_what_it_is() -> None:
    assert [path for path in [*SOURCES, *TESTS] if Path(path).stem in VAGUE_NAMES] == []


def test_a_command_reads_from_top_to_bottom() -> None:
    commands = [path for path in SOURCES if "def main" in read(path) and path.count("/") == 1]
    assert commands
    assert {path: size for path in commands if (size := len(read(path).splitlines())) > 120} == {}


def module_imports(path: str) -> set[str]:
    """Files of the packages that a file imports when it is imported: not inside functions, nor for types alone."""
    tree = ast.parse(read(path))
    tree.body = [node for node in tree.body if not isinstance(node, ast.If | ast.FunctionDef | ast.ClassDef)]
    found = set()
    for module in imported(ast.unparse(tree)):
        for name in (module, module.rpartition(".")[0]):
            found |= {f for f in (f"{name.replace('.', '/')}.py",) if f in SOURCES}
    return found


def test_no_module_imports_itself_in_a_circle() -> None:
    graph = {path: module_imports(path) for path in SOURCES}
    assert sum(map(len, graph.values())) > len(graph)
    TopologicalSorter(graph).prepare()  # raises CycleError, which names the circle


def test_no_two_public_classes_or_functions_share_a_name() -> None:
    places: dict[str, list[str]] = {}
    for path in SOURCES:
        for node in ast.parse(read(path)).body:
            if isinstance(node, ast.ClassDef | ast.FunctionDef) and not node.name.startswith("_"):
                places.setdefault(node.name, []).append(path)
    del places["main"]  # of every command
    assert {name: paths for name, paths in places.items() if len(set(paths)) > 1} == {}  # overloads lie together


def test_the_tops_stay_small() -> None:
    """A newcomer finds a folder by its duty, not a module among forty."""
    for package, most in {"kdltr_core": 10, "pipelines": 13}.items():
        assert len([path for path in (ROOT / package).glob("*.py") if not path.name.startswith("__")]) <= most


def test_the_map_names_every_module() -> None:
    layout = read("CONTRIBUTING.md").split("## Package layout")[1].split("## Add a recognizer")[0]
    words = set(re.findall(r"\w+", layout))
    modules = [path for path in [*SOURCES, *(f"benchmarks/{p.name}" for p in (ROOT / "benchmarks").glob("*.py"))]]
    assert [path for path in modules if not Path(path).stem.startswith("__") and Path(path).stem not in words] == []


def tracked_texts() -> list[str]:
    """Tracked files that are text; outside a git checkout, the Python files."""
    names: list[str] = []
    if shutil.which("git"):
        listing = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False)
        names = [name for name in listing.stdout.split("\0") if name]
    names = names or [*SOURCES, *TESTS]
    return [name for name in names if (ROOT / name).is_file() and b"\0" not in (ROOT / name).read_bytes()[:8192]]


def test_no_file_names_a_path_of_one_machine() -> None:
    def lines(_: str, text: str) -> list[int]:
        return [number for number, line in enumerate(text.splitlines(), 1) if MACHINE_PATH.search(line)]

    assert faults(tracked_texts(), lines) == {}


@pytest.mark.parametrize(
    ("path", "source", "found"),
    [
        ("kdltr_core/train/engine.py", "import ray", ["imports ray"]),
        ("kdltr_core/data/dataset.py", "def f():\n    from tqdm import tqdm", ["imports tqdm"]),
        ("kdltr_core/config.py", "from pipelines.recipes import demo", ["imports pipelines"]),
        ("kdltr_core/config.py", "import importlib\nimportlib.import_module('argparse')", ["imports argparse"]),
        ("tune_spaces/joint.py", "from torch import nn", ["imports torch"]),
        ("pipelines/evaluate.py", "from ray import train", ["imports ray"]),
        ("pipelines/train.py", "import mlflow", ["imports mlflow"]),
        ("kdltr_core/train/engine.py", "import array\nfrom rays import beam  # ray", []),
        ("tune_spaces/joint.py", "from ray import tune\nfrom kdltr_core.config import RunConfig", []),
        ("pipelines/ray_train/worker.py", "import ray\nfrom tune_spaces import joint", []),
        ("pipelines/run/tracking.py", "import mlflow", []),
    ],
)
def test_the_walker_sees_a_forbidden_import_and_lets_others_pass(path: str, source: str, found: list[str]) -> None:
    assert import_faults(path, source) == found


def test_every_package_is_installed() -> None:
    """An editable installation works without this list; a wheel does not."""
    from setuptools import find_packages

    found = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]["find"]
    listed = set(find_packages(str(ROOT), include=found["include"]))
    assert listed == {path.parent.relative_to(ROOT).as_posix().replace("/", ".") for package in PACKAGES
                      for path in (ROOT / package).rglob("__init__.py")}  # fmt: skip
