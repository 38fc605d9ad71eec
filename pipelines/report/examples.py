"""Example words of an evaluation: which are shown, and their picture with what was read of them."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from rapidfuzz.distance import Levenshtein

from kdltr_core.charset import Protocol, fold
from kdltr_core.data.pack import Pairs
from kdltr_core.evaluation.table import BenchmarkTable, Column, WordResult
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
    """A mix of outcomes, the same for the same predictions: two fifths of what only the student reads, the rest even.

    What an outcome cannot fill is shared out to the others. Words of three characters and more come first, and no
    label twice where there are enough others. Without a student, the outcomes are those of the first column.
    """
    student = next((c for c in table.columns if c.role == "student_low_res"), table.columns[0])
    teacher = next((c for c in table.columns if c.role == "teacher_enlarged"), None)
    # By heading: the part of the examples, and whether student and teacher are right; None: whatever the teacher is.
    outcomes: dict[str, tuple[float, bool, bool | None]]
    if teacher is None or student.role != "student_low_res":
        outcomes = {"Read correctly": (0.5, True, None), "Misread": (0.5, False, None)}
    else:
        outcomes = {
            "Only the student is correct": (0.4, True, False),
            "Student and enlarged teacher both right": (0.2, True, True),
            "Student and enlarged teacher both wrong": (0.2, False, False),
            "Only the enlarged teacher is correct": (0.2, False, True),
        }
    members: list[list[WordResult]] = []
    for _, by_student, by_teacher in outcomes.values():
        alike = table.correct[student] == by_student
        if teacher is not None and by_teacher is not None:
            alike = alike & (table.correct[teacher] == by_teacher)
        members.append(in_fixed_order(table, alike))
    wanted = [round(num_examples * part) for part, _, _ in outcomes.values()]
    sizes = _share_out(wanted, [len(alike) for alike in members], num_examples)
    return [
        OutcomeGroup(heading, len(alike), tuple(alike[:size]))
        for heading, alike, size in zip(outcomes, members, sizes, strict=True)
        if size
    ]


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
    """Example words as a PNG: both images, the label, and every reader's prediction with its mistakes marked.

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
            _write(page, lefts[2], middle + 0.06, word.label)
            page.text(lefts[2], middle - 0.2, word.set_name, color=GREY, fontsize=7.5, parse_math=False)
            for left, column in zip(lefts[3:], table.columns, strict=True):
                _write_prediction(page, left, middle, word, column, table.protocol)
            top -= _ROW
    page.set(xlim=(0, width), ylim=(0, height))
    figure.savefig(path, dpi=130)


def _share_out(wanted: Sequence[int], available: Sequence[int], total: int) -> list[int]:
    """As wanted where there are enough; what is then missing of the total, one by one from those that have more."""
    sizes = [min(w, a) for w, a in zip(wanted, available, strict=True)]
    while sum(sizes) < min(total, sum(available)):
        for i, there in enumerate(available):
            if sizes[i] < there and sum(sizes) < total:
                sizes[i] += 1
    return sizes


def _write_prediction(
    page: Axes, left: float, middle: float, word: WordResult, column: Column, protocol: Protocol
) -> None:
    text, right = word.predictions[column].text, word.is_correct(column, protocol)
    mark, colour = ("✓", _RIGHT) if right else ("✗", _WRONG)
    page.text(left, middle, mark, color=colour, fontsize=12, fontweight="bold", va="center_baseline")
    if not text:
        page.text(left + 0.22, middle, "nothing", color=colour, fontsize=10, style="italic", va="center_baseline")
    _write(page, left + 0.22, middle, text, () if right else wrong_characters(text, word.label, protocol))


def _write(page: Axes, left: float, middle: float, text: str, wrong: Sequence[int] = ()) -> None:
    """In one width a character, so small that it fits its column."""
    size = min(11.5, (_TEXT_WIDTH - 0.42) * 72 / _ADVANCE / max(len(text), 1))
    for i, character in enumerate(text):
        page.text(
            left + i * size * _ADVANCE / 72,
            middle,
            character if character.isprintable() else "·",
            color=_WRONG if i in wrong else INK,
            fontsize=size,
            family="DejaVu Sans Mono",
            va="center_baseline",
            parse_math=False,
        )


def wrong_characters(text: str, label: str, protocol: Protocol) -> list[int]:
    """Places in a prediction of characters that the label has otherwise or not at all."""
    counted = [i for i, character in enumerate(text) for _ in fold(character, protocol)]
    edits = Levenshtein.editops(fold(text, protocol), fold(label, protocol))
    return [counted[edit.src_pos] for edit in edits if edit.tag != "insert"]
