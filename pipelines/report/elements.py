"""Pieces of HTML: text that is escaped, tables that can be sorted and paged, charts that take the page's colours."""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from html import escape

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from PIL import Image

from pipelines.report.plots import COLOURS, GREY, RULE


@dataclass(frozen=True)
class Cell:
    """A table's cell: HTML that is shown, what it is sorted by (None: its text), and a class."""

    html: str
    value: float | None = None
    kind: str = ""


def text(content: str, kind: str = "") -> Cell:
    return Cell(escape(content), kind=kind)


def number(value: float | None, form: str = "{:.2f}", kind: str = "") -> Cell:
    """Right-aligned; None is a dash that is sorted last."""
    if value is None:
        return Cell("–", -1e308, f"number {kind}".strip())
    return Cell(form.format(value).replace("-", "−"), value, f"number {kind}".strip())


def share(accuracy: float, error: float, kind: str = "") -> Cell:
    """In per cent, its standard error beside it in small."""
    return Cell(f'{100 * accuracy:.2f}<span class="error"> ± {100 * error:.2f}</span>', accuracy, f"number {kind}")


def table(
    heads: Sequence[str], rows: Sequence[Sequence[Cell]], *, page_size: int = 0, label: str, kind: str = ""
) -> str:
    """A table in a frame of its own that scrolls sideways; a click on a head sorts.

    Args:
        heads: plain text; a column whose cells are numbers is right-aligned.
        page_size: rows shown at a time; 0: all.
        label: what the table is, for those who cannot see it.
    """
    right = [bool(rows) and rows[0][i].kind.startswith("number") for i in range(len(heads))]
    head = "".join(
        f'<th scope="col"{_class("number" if r else "")}><button type="button">{escape(h)}</button></th>'
        for h, r in zip(heads, right, strict=True)
    )
    body = "\n".join("<tr>" + "".join(_cell(cell, i) for i, cell in enumerate(row)) + "</tr>" for row in rows)
    paged = f' data-page-size="{page_size}"' if page_size and len(rows) > page_size else ""
    return (
        f'<div class="frame {kind}" tabindex="0" role="region" aria-label="{escape(label)}">'
        f"<table{paged}><thead><tr>{head}</tr></thead><tbody>\n{body}\n</tbody></table></div>"
    )


def chart(title: str, draw: Callable[[Axes], None], *, width: float = 4.6, height: float = 3.1) -> str:
    """An SVG in the colours of the page, light or dark; text stays text.

    Args:
        draw: receives the axes.
        width, height: in inches, at 100 pixels each.
    """
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasSVG(figure)
    axes = figure.subplots()
    draw(axes)
    axes.set_facecolor("none")
    buffer = io.StringIO()
    # A salt of its own: what one drawing calls a clip must not be what another on the page calls so.
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": title, "font.family": "DejaVu Sans"}):
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r'(<svg[^>]*?) height="[^"]*"([^>]*?) width="[^"]*"', r"\1\2", svg, count=1, flags=re.DOTALL)
    svg = re.sub(r' (?:xmlns:xlink|xmlns)="[^"]*"', "", svg).replace("xlink:href", "href")
    svg = re.sub(r"font: ([^;\"]*?)'DejaVu Sans'", r"font: \1'DejaVu Sans', Verdana, sans-serif", svg)
    for place, colour in enumerate(COLOURS):
        svg = svg.replace(colour, f"var(--c{place})")
    svg = svg.replace(GREY, "var(--grey)").replace(RULE, "var(--rule)")
    return (
        f'<figure class="chart"><figcaption>{escape(title)}</figcaption>'
        f'{svg.replace("<svg", f"""<svg role="img" aria-label="{escape(title)}" """, 1)}</figure>'
    )


def picture(pixels: np.ndarray, alt: str, *, exact: bool) -> str:
    """(H, W, 3) uint8 as an <img> with its data inside: PNG where it is to be exact, else a good JPEG."""
    buffer = io.BytesIO()
    if exact:
        Image.fromarray(pixels).save(buffer, "PNG", optimize=True)
    else:
        Image.fromarray(pixels).save(buffer, "JPEG", quality=90)
    data = base64.b64encode(buffer.getvalue()).decode()
    height, width = pixels.shape[:2]
    kind = "png" if exact else "jpeg"
    return f'<img alt="{escape(alt)}" width="{width}" height="{height}" src="data:image/{kind};base64,{data}">'


def legend(names: Mapping[str, int]) -> str:
    """What the lines of the charts below it are: names and their numbers, which give colour and dash."""
    entries = "".join(
        f'<li><span class="key c{i % len(COLOURS)} d{i // len(COLOURS)}"></span>{escape(name)}</li>'
        for name, i in names.items()
    )
    return f'<ul class="legend">{entries}</ul>'


def _cell(cell: Cell, place: int) -> str:
    value = "" if cell.value is None else f' data-value="{cell.value:.10g}"'
    if place == 0:
        return f'<th scope="row"{_class(cell.kind)}{value}>{cell.html}</th>'
    return f"<td{_class(cell.kind)}{value}>{cell.html}</td>"


def _class(kind: str) -> str:
    return f' class="{kind}"' if kind else ""
