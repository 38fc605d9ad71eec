"""Example words of an evaluation: which are shown, and their picture with what was read of them."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from kdltr_core.charset import fold
from kdltr_core.data.pack import Pairs
from kdltr_core.evaluation.table import BenchmarkTable, WordResult
from pipelines.report.plots import GREY, INK, RULE

_RIGHT, _WRONG = "#1a7f37", "#c8102e"

# Inches.
_IMAGE_WIDTH, _TEXT_WIDTH, _GAP, _MARGIN = 1.92, 1.85, 0.14, 0.3
_ROW, _HEADING, _HEADER = 0.6, 0.5, 0.85
_ADVANCE = 0.602  # of DejaVu Sans Mono, in its own size


@dataclass(frozen=True)
class OutcomeGroup:
    """Words that ended alike; ``num_words`` of them in the benchmark, of which ``examples`` are shown."""

    heading: str
    num_words: int
    examples: tuple[WordResult, ...]


def choose_examples(table: BenchmarkTable, num_examples: int = 20) -> list[OutcomeGroup]:
    """As many of each outcome, the same for the same predictions; without a student, of the first column's outcomes."""
    student = next((c for c in table.columns if c.role == "student_low_res"), table.columns[0])
    teacher = next((c for c in table.columns if c.role == "teacher_enlarged"), None)
    right = table.correct[student]
    outcomes = {"Read correctly": right, "Misread": ~right}
    if teacher is not None and student.role == "student_low_res":
        enlarged = table.correct[teacher]
        outcomes = {
            "Only the student is correct": right & ~enlarged,
            "Student and enlarged teacher both right": right & enlarged,
            "Student and enlarged teacher both wrong": ~right & ~enlarged,
            "Only the enlarged teacher is correct": ~right & enlarged,
        }
    return group_words(table, outcomes, num_examples // len(outcomes))


def group_words(table: BenchmarkTable, outcomes: Mapping[str, np.ndarray], num_each: int) -> list[OutcomeGroup]:
    """The outcomes that have words, by heading: (num_words,) bool over judged words; so many are shown of each."""
    words = {heading: in_fixed_order(table, chosen) for heading, chosen in outcomes.items()}
    return [OutcomeGroup(heading, len(all_), tuple(all_[:num_each])) for heading, all_ in words.items() if all_]


def in_fixed_order(table: BenchmarkTable, chosen: np.ndarray) -> list[WordResult]:
    """Judged words, those where ``chosen`` (num_words,) bool holds, in an order that depends on the words alone.

    Short words, and labels again, come last.
    """

    def position(word: WordResult) -> tuple[bool, bytes]:
        name = f"{word.set_name}\0{word.key}".encode()
        return len(fold(word.label, table.protocol)) < 3, hashlib.blake2b(name, digest_size=8).digest()

    firsts: dict[str, WordResult] = {}
    repeats: list[WordResult] = []
    for word in sorted((table.judged[i] for i in np.flatnonzero(chosen)), key=position):
        if firsts.setdefault(fold(word.label), word) is not word:
            repeats.append(word)
    return [*firsts.values(), *repeats]


def draw_examples(
    path: str | Path, table: BenchmarkTable, packs: Mapping[str, Pairs], *, num_examples: int = 20
) -> None:
    """Example words as a PNG: both images, the label, and every reader's prediction.

    Args:
        table: its first student, or else its first column, decides which words are shown.
        packs: by set name, what the words' rows are of.
    """
    groups = choose_examples(table, num_examples)
    width = 2 * _MARGIN + 2 * (_IMAGE_WIDTH + _GAP) + (1 + len(table.columns)) * _TEXT_WIDTH
    height = _HEADER + sum(len(g.examples) for g in groups) * _ROW + len(groups) * _HEADING + _MARGIN
    figure = Figure(figsize=(width, height), facecolor="white")
    page = figure.add_axes((0, 0, 1, 1))  # in inches from the lower left
    page.axis("off")
    lefts = [_MARGIN + i * (_IMAGE_WIDTH + _GAP) for i in range(2)]
    lefts += [_MARGIN + 2 * (_IMAGE_WIDTH + _GAP) + i * _TEXT_WIDTH + 0.12 for i in range(1 + len(table.columns))]
    heads = [("low_res", "16 × 64"), ("high_res", "32 × 128"), ("label", "")]
    heads += [(c.title.partition(", ")[0], f"reads {c.title.partition(', ')[2]}") for c in table.columns]
    for left, (head, detail) in zip(lefts, heads, strict=True):
        page.text(left, height - 0.42, head, color=INK, fontsize=11, fontweight="bold", parse_math=False)
        page.text(left, height - 0.62, detail, color=GREY, fontsize=9, parse_math=False)

    top = height - _HEADER
    for group in groups:
        page.plot([_MARGIN, width - _MARGIN], [top, top], color=RULE, linewidth=1)
        page.text(_MARGIN, top - 0.3, group.heading, color=INK, fontsize=11.5, fontweight="bold")
        shown = f"{group.num_words} of {table.num_words} words, {len(group.examples)} shown"
        page.text(width - _MARGIN, top - 0.3, shown, color=GREY, fontsize=9.5, ha="right")
        top -= _HEADING
        for word in group.examples:
            middle = top - _ROW / 2 + 0.04
            high_res, low_res = packs[word.set_name].gather(np.array([word.row]))
            for left, image in zip(lefts, (low_res, high_res), strict=False):
                extent = (left, left + _IMAGE_WIDTH, middle - _IMAGE_WIDTH / 8, middle + _IMAGE_WIDTH / 8)
                page.imshow(image[0].numpy().transpose(1, 2, 0), extent=extent, interpolation="nearest", aspect="auto")
            _write(page, lefts[2], middle + 0.06, word.label, INK)
            page.text(lefts[2], middle - 0.2, word.set_name, color=GREY, fontsize=7.5, parse_math=False)
            for left, column in zip(lefts[3:], table.columns, strict=True):
                text, right = word.predictions[column].text, word.is_correct(column, table.protocol)
                mark, colour = ("✓", _RIGHT) if right else ("✗", _WRONG)
                page.text(left, middle, mark, color=colour, fontsize=12, fontweight="bold", va="center_baseline")
                _write(page, left + 0.22, middle, text or "(nothing)", INK if right else _WRONG)
            top -= _ROW
    page.set(xlim=(0, width), ylim=(0, height))
    figure.savefig(path, dpi=130)


def _write(page: Axes, left: float, middle: float, text: str, colour: str) -> None:
    """So small that it fits its column."""
    shown = "".join(character if character.isprintable() else "·" for character in text)
    size = min(11.5, (_TEXT_WIDTH - 0.42) * 72 / _ADVANCE / max(len(text), 1))
    page.text(left, middle, shown, color=colour, fontsize=size, family="DejaVu Sans Mono", va="center_baseline",
              parse_math=False)  # fmt: skip
