"""Words as pictures: those that only one of two readers reads, and where a reader looked."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape

import numpy as np

from kdltr_core.data.pack import Pairs
from kdltr_core.evaluation.table import Column, WordResult
from pipelines.report.contents import Evidence
from pipelines.report.elements import picture
from pipelines.report.examples import in_fixed_order

WORDS_A_SIDE = 8
MOST_STUDENTS = 6


def compared(evidence: Evidence) -> list[tuple[Column, Column]]:
    """Every student, of so many, beside the enlarged teacher; without one beside the first of the other readers."""
    students = [c for c in evidence.columns if c.role == "student_low_res"][:MOST_STUDENTS]
    beside = [c for c in evidence.columns if c.role == "teacher_enlarged"]
    beside += [c for c in evidence.columns if c.role == "two_stage"]
    if beside:
        return [(student, beside[0]) for student in students]
    return [(students[0], other) for other in students[1:]]


def read_by_one(evidence: Evidence, first: Column, second: Column) -> list[WordResult]:
    """The words that the first reads and the second does not, in an order that depends on the words alone."""
    alone = evidence.correct[first] & ~evidence.correct[second]
    return in_fixed_order([evidence.readings[i] for i in np.flatnonzero(alone).tolist()], evidence.table.protocol)


def cards(evidence: Evidence, readings: list[WordResult], packs: Mapping[str, Pairs]) -> str:
    """Both pictures of each word, its label, and what everyone made of it."""
    return f'<div class="words">{"".join(_card(evidence, reading, packs) for reading in readings)}</div>'


def attention_strips(evidence: Evidence) -> str:
    """One strip a word: the picture once for each character that was read."""
    parts = []
    for column, words in evidence.attended.items():
        parts.append(f"<h3>{escape(column.title)}</h3>")
        for label, word in words:
            steps = "".join(
                f"<figure>{picture(step, f'where {character} was read', exact=False)}"
                f'<figcaption class="word">{escape(character)}</figcaption></figure>'
                for character, step in zip(word.text, word.steps, strict=True)
            )
            parts.append(
                f'<p class="quiet">label <span class="word">{escape(label)}</span>, read '
                f'<span class="word">{escape(word.text) or "nothing"}</span></p><div class="steps">{steps}</div>'
            )
    return "".join(parts)


def _card(evidence: Evidence, reading: WordResult, packs: Mapping[str, Pairs]) -> str:
    high_res, low_res = (p[0].numpy().transpose(1, 2, 0) for p in packs[reading.set_name].gather(_row(reading)))
    lines = []
    for column in evidence.columns:
        right = reading.is_correct(column, evidence.table.protocol)
        read = escape(reading.predictions[column]) or "<i>nothing</i>"
        mark, kind = ("✓", "right") if right else ("✗", "wrong")
        lines.append(f'<dt>{escape(column.title)}</dt><dd class="word {kind}">{mark} {read}</dd>')
    return (
        f'<div class="card"><div class="pictures">{picture(low_res, f"{reading.label}, low_res", exact=True)}'
        f"{picture(high_res, f'{reading.label}, high_res', exact=False)}</div>"
        f'<dl><dt>label</dt><dd class="word">{escape(reading.label)}</dd>{"".join(lines)}</dl></div>'
    )


def _row(reading: WordResult) -> np.ndarray:
    return np.array([reading.row])
