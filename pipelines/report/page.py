"""The report's files: one HTML page that needs nothing but itself, its figures as JSON, every prediction as Parquet."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined, Template

from kdltr_core.data.pack import Pairs
from kdltr_core.evaluation.table import PROTOCOL_TITLES, write_predictions
from kdltr_core.files import whole_file, write_text
from pipelines.report import figures, tables
from pipelines.report.contents import ReportContents


def open_template(name: str) -> Template:
    """A page of ``assets/``; what is put into it is escaped, and what it lacks is an error."""
    loader = PackageLoader("pipelines.report", "assets")
    return Environment(
        loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    ).get_template(name)


def render_page(report: ReportContents, packs: Mapping[str, Pairs]) -> str:
    """``assets/report.html.j2`` with its style, script, charts and images inside; it grows with readers, not words.

    Args:
        packs: by set name, what the words' rows are of.
    """
    return open_template("report.html.j2").render(
        report=report,
        tables=tables,
        figures=figures,
        packs=packs,
        word_groups=figures.word_groups(report.table),
        protocol=PROTOCOL_TITLES[report.table.protocol],
    )


def write_page_files(folder: str | Path, report: ReportContents, packs: Mapping[str, Pairs]) -> list[Path]:
    """``report.html``, ``report.json`` and ``predictions.parquet`` in a folder made where missing, each replaced whole.

    Returns: their paths.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    files = [folder / name for name in ("report.html", "report.json", "predictions.parquet")]
    write_text(files[0], render_page(report, packs))
    write_text(files[1], json.dumps(report.to_tree(), indent=2, ensure_ascii=False) + "\n")
    with whole_file(files[2]) as writing:
        write_predictions(writing, report.table.words, report.table.protocol)
    return files
