"""Tables of readers that are sure of whatever they read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from kdltr_core.evaluation.table import BenchmarkTable, Column, WordResult
from kdltr_core.recognizers.decoding import Prediction


def table_of(
    labels: Mapping[str, Sequence[str]], texts: Mapping[str, Mapping[Column, Sequence[str]]], **options: Any
) -> BenchmarkTable:
    """As ``BenchmarkTable.build`` makes it, of texts by set and reader."""
    words = {
        name: {column: [Prediction(text, 1.0, ()) for text in read] for column, read in of_set.items()}
        for name, of_set in texts.items()
    }
    return BenchmarkTable.build(labels, words, **options)


def one_word(row: int, text: str, column: Column) -> WordResult:
    """A word of a set, which one reader reads so."""
    return WordResult("set", row, str(row), "word", {column: Prediction(text, 1.0, ())})
