"""A picture of example words with what was read of them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch

from kdltr_core.charset import Protocol, fold
from kdltr_core.data.pack import Pack, Pairs
from kdltr_core.evaluation.table import BenchmarkTable, Column, WordResult

_INK, _GREY, _RULE = "#1f2933", "#6b7785", "#dfe3e8"
_RIGHT, _WRONG, _WRONG_GROUND = "#1a7f37", "#c8102e", "#fdecee"

# Inches.
_IMAGE_WIDTH, _TEXT_WIDTH, _GAP, _MARGIN = 1.92, 1.85, 0.14, 0.3
_ROW, _HEADING, _HEADER = 0.6, 0.5, 0.85
_ADVANCE = 0.602  # of DejaVu Sans Mono, in its own size
_MONO: dict[str, Any] = {"family": "DejaVu Sans Mono", "va": "center_baseline", "parse_math": False}


@dataclass(frozen=True)
class ExampleGroup:
    """Words that met the same fate; ``num_words`` of them in the benchmark, of which ``examples`` are shown."""

    heading: str
    num_words: int
    examples: tuple[WordResult, ...]


def choose_examples(table: BenchmarkTable, num_examples: int = 20) -> list[ExampleGroup]:
    """A mix of fates, the same for the same readings: two fifths of what only the student reads, a fifth of each other.

    What a fate cannot fill is shared out to the others. Words of three characters and more come first, and no
    label twice where there are enough others. Without a student, the fates are those of the first column.
    """
    student = next((c for c in table.columns if c.role == "student_low_res"), table.columns[0])
    teacher = next((c for c in table.columns if c.role == "teacher_enlarged"), None)
    fates: list[tuple[str, float, Callable[[bool, bool], bool]]]
    if teacher is None or student.role != "student_low_res":
        fates = [("Read correctly", 0.5, lambda s, _: s), ("Misread", 0.5, lambda s, _: not s)]
    else:
        fates = [
            ("Only the student is right", 0.4, lambda s, t: s and not t),
            ("Student and enlarged teacher both right", 0.2, lambda s, t: s and t),
            ("Student and enlarged teacher both wrong", 0.2, lambda s, t: not s and not t),
            ("Only the enlarged teacher is right", 0.2, lambda s, t: t and not s),
        ]
    members: list[list[WordResult]] = [[] for _ in fates]
    for reading in table.judged:
        s = reading.is_correct(student, table.protocol)
        t = reading.is_correct(teacher, table.protocol) if teacher else False
        members[next(i for i, fate in enumerate(fates) if fate[2](s, t))].append(reading)
    sizes = _share_out([round(num_examples * share) for _, share, _ in fates], [len(m) for m in members], num_examples)
    return [
        ExampleGroup(heading, len(group), tuple(in_fixed_order(group, table.protocol)[:size]))
        for (heading, _, _), group, size in zip(fates, members, sizes, strict=True)
        if size
    ]


def draw_examples(
    path: str | Path, table: BenchmarkTable, packs: Mapping[str, Pairs], *, num_examples: int = 20
) -> None:
    """Example words as a PNG: both images, the label, and every reader's reading with its mistakes marked.

    Args:
        table: with readings; its first student, or else its first column, decides which words are shown.
        packs: by set name, what the readings' rows are of.
    """
    groups = choose_examples(table, num_examples)
    num_rows = sum(len(g.examples) for g in groups)
    width = 2 * _MARGIN + 2 * (_IMAGE_WIDTH + _GAP) + (1 + len(table.columns)) * _TEXT_WIDTH
    height = _HEADER + num_rows * _ROW + len(groups) * _HEADING + _MARGIN
    figure, page = _page(width, height)
    lefts = [_MARGIN, _MARGIN + _IMAGE_WIDTH + _GAP]
    lefts += [_MARGIN + 2 * (_IMAGE_WIDTH + _GAP) + i * _TEXT_WIDTH + 0.12 for i in range(1 + len(table.columns))]
    heads = [("low_res", "16 × 64"), ("high_res", "32 × 128"), ("label", ""), *map(_column_head, table.columns)]
    for left, (head, detail) in zip(lefts, heads, strict=True):
        page.text(left, height - 0.42, head, color=_INK, fontsize=11, fontweight="bold", parse_math=False)
        page.text(left, height - 0.62, detail, color=_GREY, fontsize=9, parse_math=False)

    top = height - _HEADER
    for group in groups:
        page.plot([_MARGIN, width - _MARGIN], [top, top], color=_RULE, linewidth=1)
        page.text(_MARGIN, top - 0.3, group.heading, color=_INK, fontsize=11.5, fontweight="bold")
        share = f"{group.num_words} of {len(table.judged)} words, {len(group.examples)} shown"
        page.text(width - _MARGIN, top - 0.3, share, color=_GREY, fontsize=9.5, ha="right")
        top -= _HEADING
        for reading in group.examples:
            middle = top - _ROW / 2 + 0.04
            high_res, low_res = packs[reading.set_name].gather(np.array([reading.row]))
            _show(page, low_res[0].numpy(), lefts[0], middle)
            _show(page, high_res[0].numpy(), lefts[1], middle)
            _write(page, lefts[2], middle + 0.06, reading.label)
            page.text(lefts[2], middle - 0.2, reading.set_name, color=_GREY, fontsize=7.5, parse_math=False)
            for left, column in zip(lefts[3:], table.columns, strict=True):
                _write_reading(page, left, middle, reading, column, table.protocol)
            top -= _ROW
    figure.savefig(path, dpi=130)


def _share_out(wanted: Sequence[int], available: Sequence[int], total: int) -> list[int]:
    """As wanted where there are enough; what is then missing of the total, one by one from those that have more."""
    sizes = [min(w, a) for w, a in zip(wanted, available, strict=True)]
    while sum(sizes) < min(total, sum(available)):
        for i, there in enumerate(available):
            if sizes[i] < there and sum(sizes) < total:
                sizes[i] += 1
    return sizes


def in_fixed_order(readings: Sequence[WordResult], protocol: Protocol) -> list[WordResult]:
    """In an order that depends on nothing but the words themselves."""

    def position(reading: WordResult) -> tuple[bool, bytes]:
        name = f"{reading.set_name}\0{reading.key}".encode()
        return len(fold(reading.label, protocol)) < 3, hashlib.blake2b(name, digest_size=8).digest()

    ordered = sorted(readings, key=position)
    seen: set[str] = set()
    firsts: list[WordResult] = []
    repeats: list[WordResult] = []
    for reading in ordered:
        word = fold(reading.label)
        (repeats if word in seen else firsts).append(reading)
        seen.add(word)
    return firsts + repeats


def _page(width: float, height: float) -> tuple[Figure, Axes]:
    """A figure with one axes over all of it, in inches from the lower left."""
    figure = Figure(figsize=(width, height), facecolor="white")
    FigureCanvasAgg(figure)
    page = figure.add_axes((0, 0, 1, 1))
    page.set(xlim=(0, width), ylim=(0, height))
    page.axis("off")
    return figure, page


def _column_head(column: Column) -> tuple[str, str]:
    reader, _, image = column.title.partition(", ")
    return reader, f"reads {image}"


def _show(page: Axes, pixels: np.ndarray, left: float, middle: float) -> None:
    """pixels: (3, H, W) uint8, drawn as they are: enlarged without smoothing."""
    half = _IMAGE_WIDTH / 8
    extent = (left, left + _IMAGE_WIDTH, middle - half, middle + half)
    limits = page.get_xlim(), page.get_ylim()
    page.imshow(pixels.transpose(1, 2, 0), extent=extent, interpolation="nearest", aspect="auto")
    page.set(xlim=limits[0], ylim=limits[1])  # which imshow narrows to its image


def _write(page: Axes, left: float, middle: float, text: str) -> None:
    page.text(left, middle, _printable(text), color=_INK, fontsize=_size(text), **_MONO)


def _write_reading(
    page: Axes, left: float, middle: float, reading: WordResult, column: Column, protocol: Protocol
) -> None:
    text, right = reading.predictions[column], reading.is_correct(column, protocol)
    mark, colour = ("✓", _RIGHT) if right else ("✗", _WRONG)
    page.text(left, middle, mark, color=colour, fontsize=12, fontweight="bold", va="center_baseline")
    left += 0.22
    if right:
        _write(page, left, middle, text)
        return
    corner, rounding = (left - 0.28, middle - 0.19), "round,pad=0,rounding_size=0.06"
    page.add_patch(FancyBboxPatch(corner, _TEXT_WIDTH - 0.12, 0.38, boxstyle=rounding, fc=_WRONG_GROUND, ec="none"))
    if not text:
        page.text(left, middle, "nothing", color=_WRONG, fontsize=10, style="italic", va="center_baseline")
    wrong, missing = _mistakes(text, reading.label, protocol)
    size = _size(text)
    advance = size * _ADVANCE / 72
    for i, character in enumerate(_printable(text)):
        colour, weight = (_WRONG, "bold") if i in wrong else (_INK, "normal")
        page.text(left + i * advance, middle, character, color=colour, fontweight=weight, fontsize=size, **_MONO)
    for i in missing if text else ():
        page.plot(left + i * advance, middle - 0.14, marker="^", markersize=4, color=_WRONG, markeredgewidth=0)


def _printable(text: str) -> str:
    return "".join(c if c.isprintable() else "·" for c in text)


def _size(text: str) -> float:
    """Points at which the text fits its column."""
    return min(11.5, (_TEXT_WIDTH - 0.42) * 72 / _ADVANCE / max(len(text), 1))


def _mistakes(text: str, label: str, protocol: Protocol) -> tuple[list[int], list[int]]:
    """Positions in the reading of wrong characters, and of gaps where characters of the label are missing."""
    read = [(i, fold(c, protocol)) for i, c in enumerate(text) if fold(c, protocol)]
    wrong: list[int] = []
    missing: list[int] = []
    matcher = SequenceMatcher(None, [c for _, c in read], list(fold(label, protocol)), autojunk=False)
    for tag, first, last, _, _ in matcher.get_opcodes():
        if tag in ("replace", "delete"):
            wrong += [read[i][0] for i in range(first, last)]
        elif tag == "insert":
            missing.append(read[first][0] if first < len(read) else len(text))
    return wrong, missing


def write_evaluation(folder: str | Path, table: BenchmarkTable, packs: Mapping[str, Pack]) -> None:
    """``table.md``, ``table.json``, ``predictions.parquet`` and ``examples.png`` in the folder, made where missing."""
    table.write(folder)
    draw_examples(Path(folder) / "examples.png", table, packs)
