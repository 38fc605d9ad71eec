"""The page of a sweep or comparison: sentences, then sections of tables and pictures; as HTML, and for the terminal."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from kdltr_core.evaluation.table import markdown_rows
from kdltr_core.files import write_text
from pipelines.report.page import open_template

Rows = list[list[str]]


@dataclass(frozen=True)
class Section:
    """A table of rows under the first of them, a text, and PNG files, whichever there are."""

    title: str
    rows: Sequence[Sequence[str]] = ()
    text: str = ""
    pictures: Sequence[Path] = ()


@dataclass(frozen=True)
class Page:
    """What was found, in short, and what it rests on."""

    title: str
    sentences: Sequence[str]
    sections: Sequence[Section]

    @property
    def text(self) -> str:
        """In Markdown, without pictures."""
        return f"# {self.title}\n\n{self.body}"

    @property
    def body(self) -> str:
        """``text`` without its title."""
        lines = ["\n\n".join(self.sentences)]
        for section in self.sections:
            table = markdown_rows(section.rows) if section.rows else []
            if table or section.text:
                lines += [f"\n## {section.title}\n", *table, *([f"\n{section.text}"] if section.text else [])]
        return "\n".join(lines) + "\n"

    def write(self, file: Path) -> None:
        """One HTML file that needs nothing but itself."""

        def embed(picture: Path) -> str:
            return f"data:image/png;base64,{base64.b64encode(picture.read_bytes()).decode()}"

        write_text(file, open_template("sweep.html.j2").render(page=self, embed=embed))
