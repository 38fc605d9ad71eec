"""Measurements as JSON and as Markdown tables."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Row:
    """One thing measured.

    Attributes:
        name: what it is.
        seconds: of one call, median over the repeats.
        num_items: handled by one call.
    """

    name: str
    seconds: float
    num_items: int


@dataclass(frozen=True)
class Section:
    """Rows that are compared with the first of them; ``unit`` names the items."""

    title: str
    unit: str
    rows: Sequence[Row]


def to_json(sections: Sequence[Section], machine: dict[str, Any]) -> dict[str, Any]:
    """Seconds and rates as measured, section by section."""
    return {
        "machine": machine,
        "sections": [
            {
                "title": section.title,
                "rows": [
                    {
                        "name": row.name,
                        "seconds": row.seconds,
                        f"{section.unit}_per_second": row.num_items / row.seconds,
                    }
                    for row in section.rows
                ],
            }
            for section in sections
        ],
    }


def to_markdown(sections: Sequence[Section], machine: dict[str, Any]) -> str:
    """One table a section; speed and share of time are relative to the section's first row."""
    lines = ["# Speed", "", ", ".join(f"{name} {value}" for name, value in machine.items())]
    for section in sections:
        lines += [
            "",
            f"## {section.title}",
            "",
            f"| | ms | {section.unit}/s | speed | time |",
            "|---|---:|---:|---:|---:|",
        ]
        first = section.rows[0]
        for row in section.rows:
            share = (row.seconds / row.num_items) / (first.seconds / first.num_items)
            rate = row.num_items / row.seconds
            lines.append(f"| {row.name} | {1000 * row.seconds:.2f} | {rate:,.0f} | {1 / share:,.2f}× | {share:.1%} |")
    return "\n".join(lines) + "\n"
