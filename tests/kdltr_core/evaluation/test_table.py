"""The benchmark table: its figures, its files, and what it refuses."""

import json

import pyarrow.parquet as pq
import pytest

from kdltr_core.evaluation.table import (
    STUDENT_LOW_RES,
    TEACHER_ENLARGED,
    TEACHER_HIGH_RES,
    Column,
    check_judged,
)
from tests.kdltr_core.evaluation.tables import table_of

LABELS = {"IC13": ["Cafe", "don't", "42nd", "Stop!"], "CUTE": ["open"]}
PREDICTIONS = {
    "IC13": {
        TEACHER_HIGH_RES: ["cafe", "dont", "42nd", "STOP"],
        TEACHER_ENLARGED: ["cafe", "done", "4znd", "srop"],
        STUDENT_LOW_RES: ["cafe", "dont", "42nd", "slop"],
    },
    "CUTE": {TEACHER_HIGH_RES: ["0pen"], TEACHER_ENLARGED: ["open"], STUDENT_LOW_RES: ["pen"]},
}


@pytest.fixture
def table():
    return table_of(LABELS, PREDICTIONS)


def test_markdown_says_protocol_counts_errors_and_the_paired_test(table):
    """Of the student, 3 of 5 words ± √(0.6 · 0.4 / 5) and the mean of 3/4 and 0/1 ± √(0.75 · 0.25 / 4) / 2.

    The enlarged teacher's distances are cafe 0, dont/done 1, 42nd/4znd 1, stop/srop 1 and open 0, of 20 letters:
    3 / 20, and 1 − (3 · 1/4) / 5. The student alone has dont and 42nd, that teacher alone has open: 2 of 3 heads.
    """
    assert table.to_markdown() == (
        "Word accuracy, % ± standard error. Protocol: 36 characters (letters and digits, case-insensitive). "
        "5 words in 2 sets.\n"
        "\n"
        "| set                  |  words | teacher, high_res | teacher, enlarged low_res | student, low_res |\n"
        "|----------------------|-------:|------------------:|--------------------------:|-----------------:|\n"
        "| IC13                 |      4 |     100.00 ± 0.00 |             25.00 ± 21.65 |    75.00 ± 21.65 |\n"
        "| CUTE                 |      1 |       0.00 ± 0.00 |             100.00 ± 0.00 |      0.00 ± 0.00 |\n"
        "| weighted mean        |      5 |     80.00 ± 17.89 |             40.00 ± 21.91 |    60.00 ± 21.91 |\n"
        "| plain mean           | 2 sets |      50.00 ± 0.00 |             62.50 ± 10.83 |    37.50 ± 10.83 |\n"
        "| 1 − NED              |        |             95.00 |                     85.00 |            90.00 |\n"
        "| character error rate |        |              5.00 |                     15.00 |            10.00 |\n"
        "\n"
        "- student, low_res vs. teacher, enlarged low_res: only the first correct on 2 words, only the second on 1; "
        "p = 1 (exact McNemar test, two-sided)\n"
    )


@pytest.mark.parametrize(("protocol", "right"), [("36", 3), ("62", 1), ("94", 0)])
def test_the_protocol_decides_what_is_right(protocol, right):
    labels, read = {"a": ["Cafe", "don't", "STOP!"]}, ["cafe", "dont", "stop"]
    table = table_of(labels, {"a": {STUDENT_LOW_RES: read}}, protocol=protocol)
    assert table.scores["a"][STUDENT_LOW_RES].num_correct == right
    assert f"Protocol: {protocol} characters" in table.to_markdown()


def test_the_files_hold_the_table_and_one_row_a_word_with_every_prediction(table, tmp_path):
    table.write(tmp_path / "evaluation")
    names = ("predictions.parquet", "table.json", "table.md")
    assert sorted(p.name for p in (tmp_path / "evaluation").iterdir()) == list(names)
    predictions, tree, text = (tmp_path / "evaluation" / name for name in names)
    assert text.read_text(encoding="utf-8") == table.to_markdown()
    tree = json.loads(tree.read_text(encoding="utf-8"))
    assert tree["columns"] == ["teacher_high_res", "teacher_enlarged", "student_low_res"]
    assert tree["weighted_mean"]["student_low_res"]["accuracy"] == 0.6
    assert tree["sets"]["IC13"]["teacher_enlarged"]["num_correct"] == 1
    assert tree["mcnemar"] == [
        {"first": "student_low_res", "second": "teacher_enlarged", "only_first": 2, "only_second": 1, "p": 1.0}
    ]
    written = pq.read_table(predictions)
    readers = [f"{c.key}{what}" for c in table.columns for what in ("", "_correct", "_confidence")]
    assert written.column_names == ["set", "key", "label", *readers]
    assert written.schema.metadata[b"protocol"] == b"36"
    assert written.num_rows == 5
    row = written.to_pylist()[3]
    assert (row["set"], row["key"], row["label"]) == ("IC13", "4", "Stop!")
    assert (row["teacher_high_res"], row["teacher_high_res_correct"]) == ("STOP", True)
    assert (row["student_low_res"], row["student_low_res_correct"]) == ("slop", False)


def test_words_whose_label_has_no_character_that_counts_are_not_judged(tmp_path):
    """Whatever is predicted for them: neither right nor wrong, in no figure, and counted."""
    labels, predicted = ["one", "!!", "日本語", "two"], ["one", "", "kanji", "tow"]
    table = table_of({"a": labels}, {"a": {STUDENT_LOW_RES: predicted, TEACHER_ENLARGED: predicted}})
    alone = table_of({"a": ["one", "two"]}, {"a": {c: ["one", "tow"] for c in table.columns}})
    assert (table.scores, table.character_error_rates) == (alone.scores, alone.character_error_rates)
    assert "2 words in 1 set; not judged: 2 more, whose labels have no such character." in table.to_markdown()
    assert table.to_tree()["num_not_judged"] == 2
    table.write(tmp_path)
    written = pq.read_table(tmp_path / "predictions.parquet").to_pydict()
    assert written["student_low_res"] == predicted
    assert written["student_low_res_correct"] == [True, None, None, False]
    by_94 = table_of({"a": labels}, {"a": {STUDENT_LOW_RES: predicted}}, protocol="94")
    assert by_94.num_words == 3


def test_a_set_without_a_judged_word_is_refused():
    with pytest.raises(ValueError, match="the benchmark set b cannot be scored: none of its 2 labels such as '!!'"):
        check_judged({"a": ["one", "!!"], "b": ["!!", "日本"]})
    check_judged({"b": ["!!", "日本"]}, "94")
    with pytest.raises(ValueError, match="CUTE cannot be scored: none of its 0 labels has a character"):
        table_of({"CUTE": []}, {"CUTE": {STUDENT_LOW_RES: []}})


def test_keys_of_the_source_are_kept():
    table = table_of({"a": ["x"]}, {"a": {STUDENT_LOW_RES: ["x"]}}, keys={"a": ["000000007"]})
    assert [w.key for w in table.words] == ["000000007"]


def test_several_students_are_columns_and_are_tested_in_pairs():
    plain, distilled = Column("student_low_res", "plain"), Column("student_low_res", "distilled")
    table = table_of({"a": ["x", "y"]}, {"a": {TEACHER_ENLARGED: ["x", ""], plain: ["", ""], distilled: ["x", "y"]}})
    pairs = [(c.first, c.second, c.test.only_first, c.test.only_second) for c in table.comparisons]
    assert pairs == [
        (plain, TEACHER_ENLARGED, 0, 1),
        (distilled, TEACHER_ENLARGED, 1, 0),
        (plain, distilled, 0, 2),
    ]
    assert "| student (plain), low_res | student (distilled), low_res |" in table.to_markdown()


def test_a_student_alone_makes_a_table_without_tests():
    table = table_of({"a": ["x"]}, {"a": {STUDENT_LOW_RES: ["x"]}})
    assert table.comparisons == ()
    assert "McNemar" not in table.to_markdown()
    assert "1 words in 1 set." in table.to_markdown()
    assert "| plain mean           | 1 set |" in table.to_markdown()
