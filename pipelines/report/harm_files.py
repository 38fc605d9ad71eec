"""The harm matrix as files: text, JSON, and a picture, green where the student reads more and red where less."""

from __future__ import annotations

import json
from pathlib import Path

from matplotlib.figure import Figure

from kdltr_core.evaluation.harm import HarmMatrix
from kdltr_core.evaluation.significance import signed
from kdltr_core.files import write_text
from pipelines.report.plots import GREY, INK

MATRIX_FILES = ("harm.md", "harm.json", "harm.png")
_AHEAD, _EVEN, _BEHIND, _SURELY_BEHIND = "#d7f0dd", "#f4f5f7", "#fbe3e0", "#e5534b"


def write_matrix(folder: Path, matrix: HarmMatrix) -> None:
    """``MATRIX_FILES`` in a folder."""
    text, tree, picture = (folder / name for name in MATRIX_FILES)
    write_text(text, matrix.to_markdown())
    write_text(tree, json.dumps(matrix.to_tree(), indent=2, ensure_ascii=False) + "\n")
    draw_matrix(picture, matrix)


def draw_matrix(path: str | Path, matrix: HarmMatrix) -> None:
    """A PNG: a row for each kind of text, a column for each kind of low resolution."""
    texts, images = matrix.texts, matrix.images
    figure = Figure(figsize=(2.2 + 1.9 * len(images), 1.1 + 0.62 * len(texts)), facecolor="white", layout="constrained")
    axes = figure.subplots()
    for cell in matrix.cells:
        x, y = images.index(cell.image), texts.index(cell.text)
        gain = cell.gain
        colour = _AHEAD if gain.low > 0 else _EVEN if not cell.is_behind else _BEHIND
        colour, ink = (_SURELY_BEHIND, "white") if cell.is_surely_behind else (colour, INK)
        axes.barh(y, 0.96, 0.9, left=x - 0.48, color=colour)
        axes.text(x, y - 0.12, signed(gain.points), ha="center", va="center", color=ink, fontsize=12)
        interval = f"{signed(gain.low)} … {signed(gain.high)}, {cell.num_words} words"
        axes.text(x, y + 0.24, interval, ha="center", va="center", color=ink, fontsize=6.5)
    axes.set(xlim=(-0.5, len(images) - 0.5), ylim=(len(texts) - 0.5, -0.5))
    axes.set_xticks(range(len(images)), images)
    axes.set_yticks(range(len(texts)), texts)
    axes.xaxis.tick_top()
    axes.tick_params(length=0, labelcolor=INK)
    axes.spines[:].set_visible(False)
    figure.supxlabel("student minus enlarged teacher, points of word accuracy, 95 % interval", fontsize=8, color=GREY)
    figure.savefig(path, dpi=130)
