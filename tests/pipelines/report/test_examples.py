"""Which example words are shown, what is marked in them, and the curves of a metrics log."""

import json
import warnings

import numpy as np
import pytest
import torch
from PIL import Image

from kdltr_core.evaluation.table import STUDENT_LOW_RES, TEACHER_ENLARGED, TEACHER_HIGH_RES, BenchmarkTable
from pipelines.report.examples import _mistakes, choose_examples, draw_examples
from pipelines.report.plots import draw_curves, read_metrics


class Pixels:
    """A pack of one colour an image."""

    def __init__(self, labels):
        self.name, self.labels = "grey", labels

    def __len__(self):
        return len(self.labels)

    def gather(self, indices):
        shades = torch.from_numpy(np.asarray(indices) % 256).to(torch.uint8)[:, None, None, None]
        return shades.expand(-1, 3, 32, 128), shades.expand(-1, 3, 16, 64)


def _table(num_student, num_both, num_none, num_teacher, labels=None):
    """A table in which so many words meet each fate."""
    fates = [(True, False)] * num_student + [(True, True)] * num_both + [(False, False)] * num_none
    fates += [(False, True)] * num_teacher
    labels = labels or [f"word{i}" for i in range(len(fates))]
    student = [label if s else label + "x" for label, (s, _) in zip(labels, fates, strict=True)]
    teacher = [label if t else "" for label, (_, t) in zip(labels, fates, strict=True)]
    columns = {TEACHER_HIGH_RES: labels, TEACHER_ENLARGED: teacher, STUDENT_LOW_RES: student}
    return BenchmarkTable.build({"grey": labels}, {"grey": columns})


@pytest.mark.parametrize(
    ("fates", "shown"),
    [
        ((50, 50, 50, 50), (8, 4, 4, 4)),
        ((2, 50, 50, 50), (2, 6, 6, 6)),  # what a fate cannot fill is shared out to the others
        ((50, 0, 0, 0), (20, 0, 0, 0)),
        ((3, 1, 0, 2), (3, 1, 0, 2)),  # fewer words than are asked for
    ],
)
def test_examples_are_a_mix_led_by_what_only_the_student_reads(fates, shown):
    both = "Student and enlarged teacher both"
    headings = ("Only the student is right", f"{both} right", f"{both} wrong", "Only the enlarged teacher is right")
    expected = [(h, n, k) for h, n, k in zip(headings, fates, shown, strict=True) if k]
    groups = choose_examples(_table(*fates), 20)
    assert [(g.heading, g.num_words, len(g.examples)) for g in groups] == expected
    for group in groups:
        student_right = group.heading in (headings[0], headings[1])
        assert all(r.is_correct(STUDENT_LOW_RES) == student_right for r in group.examples)


def test_the_same_readings_give_the_same_examples():
    assert choose_examples(_table(30, 30, 30, 30)) == choose_examples(_table(30, 30, 30, 30))


def test_examples_repeat_no_label_and_short_words_come_last():
    (group,) = choose_examples(_table(8, 0, 0, 0, ["stop", "STOP", "stop!", "a", "of", "open", "taxi", "sale"]), 4)
    assert {r.label.lower().strip("!") for r in group.examples} == {"stop", "open", "taxi", "sale"}


def test_without_a_student_the_teachers_own_hits_and_misses_are_shown():
    labels = ["stop", "open", "taxi"]
    columns = {TEACHER_HIGH_RES: ["stop", "opem", "taxi"], TEACHER_ENLARGED: ["stop", "open", "tax"]}
    table = BenchmarkTable.build({"a": labels}, {"a": columns})
    groups = {group.heading: {r.label for r in group.examples} for group in choose_examples(table)}
    assert groups == {"Read correctly": {"stop", "taxi"}, "Misread": {"open"}}


@pytest.mark.parametrize(
    ("reading", "label", "wrong", "missing"),
    [
        ("FOOFBALL", "football", [3], []),
        ("srop", "Stop!", [1], []),
        ("stp", "stop", [], [2]),
        ("sto", "stop", [], [3]),
        ("top", "stop", [], [0]),
        ("stoop", "stop", [3], []),
        ("d'ont", "done", [4], []),  # characters that do not count are never wrong
        ("", "stop", [], [0]),
    ],
)
def test_wrong_and_missing_characters_are_found(reading, label, wrong, missing):
    assert _mistakes(reading, label, "36") == (wrong, missing)


def test_case_is_a_mistake_where_it_counts():
    assert _mistakes("Stop", "stop", "36") == ([], [])
    assert _mistakes("Stop", "stop", "62") == ([0], [])


def test_the_picture_shows_the_words_pixels_and_any_text(tmp_path):
    labels = ["$5$_x^2", "W" * 25, "tab\there", "plain", "<b>&", "\\frac"]
    table = _table(2, 2, 1, 1, labels)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        draw_examples(tmp_path / "examples.png", table, {"grey": Pixels(labels)})
    picture = np.asarray(Image.open(tmp_path / "examples.png").convert("RGB")).reshape(-1, 3)
    for row in range(len(labels)):  # each image is a rectangle of the shade that is its row
        assert (picture == row).all(axis=1).sum() > 2000
    red = (picture[:, 0] > 180) & (picture[:, 1] < 60) & (picture[:, 2] < 80)
    assert red.sum() > 50


def test_a_table_without_teacher_is_drawn_too(tmp_path):
    table = BenchmarkTable.build({"grey": ["one", "two"]}, {"grey": {STUDENT_LOW_RES: ["one", "too"]}})
    assert [g.heading for g in choose_examples(table)] == ["Read correctly", "Misread"]
    draw_examples(tmp_path / "examples.png", table, {"grey": Pixels(["one", "two"])})
    assert Image.open(tmp_path / "examples.png").size[0] > 500


def _line(step, **metrics):
    return (
        json.dumps({"step": step, "time": 0, "metrics": {k.replace("__", "/"): v for k, v in metrics.items()}}) + "\n"
    )


def test_a_journal_is_read_by_name_without_notes_and_torn_lines(tmp_path):
    metrics_log = tmp_path / "metrics.jsonl"
    note = json.dumps({"step": 20, "time": 0, "note": "reading"}) + "\n"
    metrics_log.write_text(
        _line(10, train__loss=2.0) + note + _line(20, train__loss=1.5, validation__word_accuracy=60.0) + '{"step": 3'
    )
    assert read_metrics(metrics_log) == {
        "train/loss": ([10, 20], [2.0, 1.5]),
        "validation/word_accuracy": ([20], [60.0]),
    }


def test_a_journal_that_is_none_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"cannot be read: No such file"):
        read_metrics(tmp_path / "metrics.jsonl")
    (tmp_path / "other").write_text("1, 2\n")
    with pytest.raises(ValueError, match=r"line 1 of .* is no record"):
        read_metrics(tmp_path / "other")
    (tmp_path / "empty").write_text(_line(1, train__learning_rate=1.0))
    with pytest.raises(ValueError, match="no loss and no accuracy"):
        draw_curves(tmp_path / "curves.png", tmp_path / "empty")


def test_curves_are_drawn_even_where_a_loss_was_not_finite(tmp_path):
    lines = [
        _line(s, train__loss=5 / s, train__cross_entropy=float("nan") if s == 30 else 1.0) for s in range(10, 60, 10)
    ]
    (tmp_path / "metrics.jsonl").write_text("".join(lines) + _line(50, validation__word_accuracy=61.0))
    draw_curves(tmp_path / "curves.png", tmp_path / "metrics.jsonl")
    assert Image.open(tmp_path / "curves.png").size == (1430, 546)
