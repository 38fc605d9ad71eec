"""What is written in docs/ holds: the API page names what there is, links lead somewhere, the notebook runs."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[1] / "docs"


def test_links_lead_to_files() -> None:
    pages = [*DOCS.glob("*.md"), DOCS.parent / "README.md", DOCS.parent / "CONTRIBUTING.md"]
    links = [(page, link) for page in pages for link in re.findall(r"\]\(([^)#\s]+)", page.read_text(encoding="utf-8"))]
    assert [(p.name, link) for p, link in links if "://" not in link and not (p.parent / link).exists()] == []


def test_the_api_page_has_every_public_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(DOCS)
    from make_api import PUBLIC, api_markdown

    written = (DOCS / "api.md").read_text(encoding="utf-8")
    assert all(f"### {name}\n" in written for names in PUBLIC.values() for name in names)
    headings = [line for line in api_markdown().splitlines() if line.startswith("#")]
    assert [line for line in written.splitlines() if line.startswith("#")] == headings, "run docs/make_api.py"


def test_the_recipes_are_those_of_the_help() -> None:
    from pipelines.recipes import RECIPES

    rows = [f"| `{name}` | {(recipe.__doc__ or '').splitlines()[0]} |" for name, recipe in RECIPES.items()]
    assert "\n".join(["|---|---|", *rows, ""]) in (DOCS / "training.md").read_text(encoding="utf-8")


@pytest.mark.slow
@pytest.mark.long
def test_the_notebook_runs() -> None:
    nbclient, nbformat = pytest.importorskip("nbclient"), pytest.importorskip("nbformat")
    notebook = nbformat.read(DOCS / "quickstart.ipynb", as_version=4)
    nbclient.NotebookClient(notebook, timeout=1800).execute(cwd=str(DOCS.parent))
    shown = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    assert any("image/png" in output.get("data", {}) for output in shown)
    assert any("student, low_res" in output.get("data", {}).get("text/markdown", "") for output in shown)
