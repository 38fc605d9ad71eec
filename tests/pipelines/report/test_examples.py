"""Which example words are shown, and how."""

import warnings

import numpy as np
import pytest
from PIL import Image

from kdltr_core.evaluation.table import STUDENT_LOW_RES, TEACHER_ENLARGED, TEACHER_HIGH_RES
from pipelines.report.examples import choose_examples, draw_examples
from tests.kdltr_core.evaluation.tables import table_of
from tests.pipelines.report.made import Stripes


class Plain(Stripes):
    """Images of one colour, which is their row's."""

    contrast = 0


def _table(num_student, num_both, num_none, num_teacher, labels=None):
    """A table in which so many words end in each way."""
    outcomes = [(True, False)] * num_student + [(True, True)] * num_both + [(False, False)] * num_none
    outcomes += [(False, True)] * num_teacher
    labels = labels or [f"word{i}" for i in range(len(outcomes))]
    student = [label if s else label + "x" for label, (s, _) in zip(labels, outcomes, strict=True)]
    teacher = [label if t else "" for label, (_, t) in zip(labels, outcomes, strict=True)]
    columns = {TEACHER_HIGH_RES: labels, TEACHER_ENLARGED: teacher, STUDENT_LOW_RES: student}
    return table_of({"grey": labels}, {"grey": columns})


@pytest.mark.parametrize(
    ("outcomes", "shown"),
    [
        ((50, 50, 50, 50), (5, 5, 5, 5)),
        ((3, 1, 0, 20), (3, 1, 0, 5)),
    ],
)
def test_as_many_examples_of_each_outcome_are_shown(outcomes, shown):
    both = "Student and enlarged teacher both"
    headings = ("Only the student is correct", f"{both} right", f"{both} wrong", "Only the enlarged teacher is correct")
    expected = [(h, n, k) for h, n, k in zip(headings, outcomes, shown, strict=True) if k]
    groups = choose_examples(_table(*outcomes), 20)
    assert [(g.heading, g.num_words, len(g.examples)) for g in groups] == expected
    for group in groups:
        student_right = group.heading in (headings[0], headings[1])
        assert all(r.is_correct(STUDENT_LOW_RES) == student_right for r in group.examples)


def test_examples_repeat_no_label_and_short_words_come_last():
    (group,) = choose_examples(_table(8, 0, 0, 0, ["stop", "STOP", "stop!", "a", "of", "open", "taxi", "sale"]), 16)
    assert {r.label.lower().strip("!") for r in group.examples} == {"stop", "open", "taxi", "sale"}


def test_without_a_student_the_teachers_own_hits_and_misses_are_shown():
    labels = ["stop", "open", "taxi"]
    columns = {TEACHER_HIGH_RES: ["stop", "opem", "taxi"], TEACHER_ENLARGED: ["stop", "open", "tax"]}
    table = table_of({"a": labels}, {"a": columns})
    groups = {group.heading: {r.label for r in group.examples} for group in choose_examples(table)}
    assert groups == {"Read correctly": {"stop", "taxi"}, "Misread": {"open"}}


def test_the_picture_shows_the_words_pixels_and_any_text(tmp_path):
    labels = ["$5$_x^2", "W" * 25, "tab\there", "plain", "<b>&", "\\frac"]
    table = _table(2, 2, 1, 1, labels)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        draw_examples(tmp_path / "examples.png", table, {"grey": Plain("grey", labels)})
    picture = np.asarray(Image.open(tmp_path / "examples.png").convert("RGB")).reshape(-1, 3)
    for row in range(len(labels)):  # each image is a rectangle of the shade that is its row
        assert (picture == row).all(axis=1).sum() > 2000
    red = (picture[:, 0] > 180) & (picture[:, 1] < 60) & (picture[:, 2] < 80)
    assert red.sum() > 50
