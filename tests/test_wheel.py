"""The built wheel, installed in another environment and used from another folder."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

from tests.service import encoded, word_picture

ROOT = Path(__file__).parents[1]

pytestmark = [pytest.mark.slow, pytest.mark.long]


def test_a_wheel_has_all_it_needs_and_reads_trains_and_draws_from_another_folder(tmp_path: Path) -> None:
    """What it depends on is taken from this environment; kdltr itself is not, and its sources are out of reach."""
    build = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "-w", tmp_path, ROOT]
    subprocess.run(build, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("kdltr-*.whl")
    packed = zipfile.ZipFile(wheel).namelist()
    assert any(name.endswith(".safetensors") for name in packed)
    assert not any(name.startswith(("tests", "benchmarks", "docs")) for name in packed)

    environment = tmp_path / "environment"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", environment], check=True)
    site = Path(sysconfig.get_path("purelib", vars={"base": str(environment)}))
    zipfile.ZipFile(wheel).extractall(site)
    # Behind its own packages, and without the .pth files that would bring the sources back.
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib"))

    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "sign.png").write_bytes(encoded(word_picture("Espresso")))
    variables = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}

    def kdltr(*words: str) -> str:
        command = [environment / "bin" / "python", "-m", "pipelines", *words]
        return subprocess.run(command, check=True, cwd=elsewhere, env=variables, capture_output=True, text=True).stdout

    where = subprocess.run(
        [environment / "bin" / "python", "-c", "import kdltr_core; print(kdltr_core.__file__)"],
        check=True, cwd=elsewhere, env=variables, capture_output=True, text=True,
    ).stdout  # fmt: skip
    assert Path(where).is_relative_to(environment)
    small = ("--num-steps", "1", "--workers", "1", "--data.num-rendered-train", "64", "--optim.batch-size", "8")
    fewer = ("--selection-words", "16", "--harm-words", "4")
    cache = ("--data.cache-folder", "cache", "--data.num-rendered-benchmark", "16")
    assert "word accuracy" in kdltr("train", "demo", *small, *cache, *fewer).lower()
    assert "Espresso" in kdltr("predict", "runs/demo", "sign.png")
    kdltr("evaluate", "runs/demo", *cache, "--report", "report", *fewer[2:])
    assert (elsewhere / "report" / "report.html").stat().st_size > 10_000
