"""The harm matrix: where a student is behind its enlarged teacher, and by more than chance."""

from __future__ import annotations

import pytest

from kdltr_core.evaluation.harm import AS_GIVEN, HarmMatrix
from kdltr_core.evaluation.table import STUDENT_LOW_RES, TEACHER_ENLARGED, BenchmarkTable
from tests.kdltr_core.evaluation.tables import table_of

LABELS = [f"word{number}" for number in range(100)]


def table(**sets: tuple[int, int]) -> BenchmarkTable:
    """Sets of 100 words, of which the teacher reads the first so many and the student the last so many."""
    predictions = {
        name: {
            TEACHER_ENLARGED: [w if i < teacher else "" for i, w in enumerate(LABELS)],
            STUDENT_LOW_RES: [w if i >= 100 - student else "" for i, w in enumerate(LABELS)],
        }
        for name, (teacher, student) in sets.items()
    }
    return table_of(dict.fromkeys(sets, LABELS), predictions)


@pytest.fixture(scope="module")
def matrix() -> HarmMatrix:
    rendered = table(**{"words, clean": (90, 92), "plates and codes, clean": (60, 30), "words, camera": (50, 49)})
    return HarmMatrix.build(rendered, table(easy=(80, 85)), STUDENT_LOW_RES, TEACHER_ENLARGED)


def test_a_cell_is_the_students_accuracy_minus_the_enlarged_teachers_on_the_same_words(matrix: HarmMatrix) -> None:
    gains = {(cell.text, cell.image): cell.gain.points for cell in matrix.cells}
    assert gains == pytest.approx(
        {("words", "clean"): 2, ("plates and codes", "clean"): -30, ("words", "camera"): -1, ("easy", AS_GIVEN): 5}
    )
    assert matrix.mean_gain == pytest.approx((2 - 30 - 1 + 5) / 4)


def test_behind_by_chance_and_behind_for_sure_are_told_apart(matrix: HarmMatrix) -> None:
    # Teacher alone right on 60 words, student alone on 30, in 100: -30 ± 1.98 * sqrt((0.9 - 0.09) / 99) * 100.
    plates = matrix.cell("plates and codes", "clean")
    assert plates is not None
    assert plates.gain.high == pytest.approx(-30 + 198.4 * (0.81 / 99) ** 0.5, abs=0.05)
    assert {(c.text, c.image) for c in matrix.cells if c.is_behind} == {
        ("plates and codes", "clean"), ("words", "camera"),
    }  # fmt: skip
    assert [(c.text, c.image) for c in matrix.cells if c.is_surely_behind] == [("plates and codes", "clean")]
    assert "significantly behind on plates and codes, clean; below zero within chance in 1" in matrix.summary


def test_the_table_has_a_row_for_each_text_and_marks_what_is_behind(matrix: HarmMatrix) -> None:
    lines = matrix.to_markdown().splitlines()
    assert [cell.strip() for cell in lines[2].split("|")[1:-1]] == ["text", "clean", "camera", AS_GIVEN]
    rows = {line.split("|")[1].strip(): line for line in lines[4:7]}
    assert list(rows) == ["words", "plates and codes", "easy"]
    assert "!! −30.00" in rows["plates and codes"]
    assert "! −1.00" in rows["words"]
    assert "!" not in rows["easy"]
