"""An evaluation that was never run: made-up readings of made-up words, with everything a report can show."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from kdltr_core.evaluation.benchmarks import BenchmarkReader
from kdltr_core.evaluation.harm import HarmCell, HarmMatrix
from kdltr_core.evaluation.significance import Gain
from kdltr_core.evaluation.table import STUDENT_LOW_RES, TEACHER_ENLARGED, TEACHER_HIGH_RES, BenchmarkTable, Column
from kdltr_core.recognizers.decoding import Prediction
from pipelines.report.contents import ReportContents

TWO_STAGE = Column("two_stage")
# How often each reader is right.
SKILL = {TEACHER_HIGH_RES: 0.9, TEACHER_ENLARGED: 0.5, STUDENT_LOW_RES: 0.7, TWO_STAGE: 0.4}
_LETTERS = np.array(list("abcdefghilmnorst01"))


class Stripes:
    """A set whose images follow from the row."""

    contrast = 3

    def __init__(self, name: str, labels: list[str]) -> None:
        self.name, self.labels, self.keys = name, labels, [f"image-{i + 1:09d}" for i in range(len(labels))]

    def __len__(self) -> int:
        return len(self.labels)

    def gather(self, indices: np.ndarray) -> tuple[Tensor, Tensor]:
        shades = torch.as_tensor(np.asarray(indices) % 200).to(torch.uint8)[:, None, None, None]
        columns = (torch.arange(128) % 16 * self.contrast).to(torch.uint8)
        return (shades + columns).expand(-1, 3, 32, 128).clone(), (shades + columns[:64]).expand(-1, 3, 16, 64).clone()


def made_up(num_words: int, *, columns: tuple[Column, ...] = tuple(SKILL)) -> tuple[ReportContents, dict[str, Stripes]]:
    """Two sets of ``num_words`` in all; a wrong reading has another first letter."""
    rng = np.random.default_rng(0)
    lengths = rng.integers(1, 12, num_words)
    letters = rng.choice(_LETTERS, (num_words, 12))
    words = ["".join(row[:length]) for row, length in zip(letters, lengths, strict=True)]
    split = num_words // 3
    sets = {"IC13": words[:split], "CUTE80": words[split:]}
    predictions: dict[str, dict[Column, list[Prediction]]] = {name: {} for name in sets}
    for name, labels in sets.items():
        for column in columns:
            right = rng.random(len(labels)) < SKILL[column]
            sure, unsure = rng.beta(8, 2, len(labels)), rng.beta(3, 3, len(labels))
            predictions[name][column] = [
                Prediction(w if r else "x" + w[1:], c, (), c**0.5 if column == STUDENT_LOW_RES else None)
                for w, r, c in zip(labels, right, np.where(right, sure, unsure).tolist(), strict=True)
            ]
    table = BenchmarkTable.build(sets, predictions)
    harm = HarmMatrix(
        (
            HarmCell("words", "clean", 200, 90.0, 92.0, Gain("student", 2.0, -1.0, 5.0)),
            HarmCell("plates and codes", "clean", 200, 60.0, 30.0, Gain("student", -30.0, -40.0, -20.0)),
            HarmCell("words", "camera", 200, 50.0, 49.0, Gain("student", -1.0, -6.0, 4.0)),
        )
    )
    report = ReportContents(
        table,
        title="Made up <b>& nothing</b>",
        made="2026-11-27, commit 0123456789",
        readers=[BenchmarkReader(column, lambda batch: [], "parseq_tiny", "made up") for column in columns],
        harm={STUDENT_LOW_RES: harm},
    )
    return report, {name: Stripes(name, labels) for name, labels in sets.items()}
