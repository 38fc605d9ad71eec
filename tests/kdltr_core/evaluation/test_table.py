"""The benchmark table: its figures, its files, and what it refuses."""

import json

import pyarrow.parquet as pq
import pytest

from kdltr_core.evaluation.readings import STUDENT_LOW_RES, TEACHER_ENLARGED, TEACHER_HIGH_RES, Column
from kdltr_core.evaluation.table import BenchmarkTable

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
    return BenchmarkTable.build(LABELS, PREDICTIONS)


def test_cells_count_right_words(table):
    counts = {name: {c: (cell.num_correct, cell.count) for c, cell in row.items()} for name, row in table.cells.items()}
    assert counts == {
        "IC13": {TEACHER_HIGH_RES: (4, 4), TEACHER_ENLARGED: (1, 4), STUDENT_LOW_RES: (3, 4)},
        "CUTE": {TEACHER_HIGH_RES: (0, 1), TEACHER_ENLARGED: (1, 1), STUDENT_LOW_RES: (0, 1)},
    }


def test_means_over_sets_and_their_standard_errors(table):
    accuracy, error = table.weighted(STUDENT_LOW_RES)
    assert (accuracy, error) == pytest.approx((3 / 5, (0.6 * 0.4 / 5) ** 0.5))
    accuracy, error = table.plain(STUDENT_LOW_RES)
    assert (accuracy, error) == pytest.approx((3 / 8, (0.75 * 0.25 / 4) ** 0.5 / 2))


def test_edit_figures_are_over_all_words(table):
    # Distances of the enlarged teacher: cafe 0, dont/done 1, 42nd/4znd 1, stop/srop 1, open 0; 20 letters in all.
    assert table.character_error_rates[TEACHER_ENLARGED] == pytest.approx(3 / 20)
    assert table.ned(TEACHER_ENLARGED) == pytest.approx(1 - (3 * 1 / 4) / 5)


def test_the_student_is_tested_against_the_enlarged_teacher(table):
    (comparison,) = table.comparisons
    assert (comparison.first, comparison.second) == (STUDENT_LOW_RES, TEACHER_ENLARGED)
    # The student alone has "dont" and "42nd", the teacher alone has "open": 2 of 3 heads, two-sided 1.
    assert (comparison.test.only_first, comparison.test.only_second, comparison.test.p) == (2, 1, 1.0)


def test_markdown_says_protocol_counts_errors_and_the_paired_test(table):
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
        "- student, low_res vs. teacher, enlarged low_res: right alone on 2 words, wrong alone on 1; p = 1 "
        "(exact McNemar test, two-sided)\n"
    )


@pytest.mark.parametrize(("protocol", "right"), [("36", 3), ("62", 1), ("94", 0)])
def test_the_protocol_decides_what_is_right(protocol, right):
    labels, read = {"a": ["Cafe", "don't", "STOP!"]}, ["cafe", "dont", "stop"]
    table = BenchmarkTable.build(labels, {"a": {STUDENT_LOW_RES: read}}, protocol=protocol)
    assert table.cells["a"][STUDENT_LOW_RES].num_correct == right
    assert f"Protocol: {protocol} characters" in table.to_markdown()


def test_json_holds_the_table_and_reads_back_equal(table):
    tree = json.loads(table.to_json())
    assert tree["weighted_mean"]["student_low_res"]["accuracy"] == 0.6
    assert tree["sets"]["IC13"]["teacher_enlarged"]["num_correct"] == 1
    back = BenchmarkTable.from_json(table.to_json())
    assert back == table
    assert back.to_markdown() == table.to_markdown()


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"sets": {"a": {"student_low_res": 3}}}', '{"sets": {"a": {"x": {}}}}']
)
def test_other_json_is_refused(text):
    with pytest.raises(ValueError, match=r"not the JSON of a benchmark table|no column of a benchmark table"):
        BenchmarkTable.from_json(text)


def test_parquet_has_one_row_a_word_with_every_reading(table, tmp_path):
    table.write(tmp_path / "evaluation")
    assert sorted(p.name for p in (tmp_path / "evaluation").iterdir()) == [
        "predictions.parquet",
        "table.json",
        "table.md",
    ]
    written = pq.read_table(tmp_path / "evaluation" / "predictions.parquet")
    assert written.column_names == [
        "set",
        "key",
        "label",
        "teacher_high_res",
        "teacher_high_res_correct",
        "teacher_enlarged",
        "teacher_enlarged_correct",
        "student_low_res",
        "student_low_res_correct",
    ]
    row = written.to_pylist()[3]
    assert (row["set"], row["key"], row["label"]) == ("IC13", "4", "Stop!")
    assert (row["teacher_high_res"], row["teacher_high_res_correct"]) == ("STOP", True)
    assert (row["student_low_res"], row["student_low_res_correct"]) == ("slop", False)
    assert written.schema.metadata[b"protocol"] == b"36"
    assert written.num_rows == 5


def test_a_table_from_json_has_no_predictions_to_write(table, tmp_path):
    with pytest.raises(ValueError, match="no readings"):
        BenchmarkTable.from_json(table.to_json()).write_predictions(tmp_path / "predictions.parquet")


def test_keys_of_the_source_are_kept():
    table = BenchmarkTable.build({"a": ["x"]}, {"a": {STUDENT_LOW_RES: ["x"]}}, keys={"a": ["000000007"]})
    assert [r.key for r in table.readings] == ["000000007"]


def test_several_students_are_columns_and_are_tested_in_pairs():
    plain, distilled = Column("student_low_res", "plain"), Column("student_low_res", "distilled")
    table = BenchmarkTable.build(
        {"a": ["x", "y"]}, {"a": {TEACHER_ENLARGED: ["x", ""], plain: ["", ""], distilled: ["x", "y"]}}
    )
    pairs = [(c.first, c.second, c.test.only_first, c.test.only_second) for c in table.comparisons]
    assert pairs == [
        (plain, TEACHER_ENLARGED, 0, 1),
        (distilled, TEACHER_ENLARGED, 1, 0),
        (plain, distilled, 0, 2),
    ]
    assert "| student (plain), low_res | student (distilled), low_res |" in table.to_markdown()
    assert BenchmarkTable.from_json(table.to_json()) == table


def test_a_student_alone_makes_a_table_without_tests():
    table = BenchmarkTable.build({"a": ["x"]}, {"a": {STUDENT_LOW_RES: ["x"]}})
    assert table.comparisons == ()
    assert "McNemar" not in table.to_markdown()
    assert "1 words in 1 set." in table.to_markdown()


def test_no_sets_and_empty_sets_are_refused():
    with pytest.raises(ValueError, match="no benchmark set"):
        BenchmarkTable.build({}, {})
    with pytest.raises(ValueError, match="set CUTE is empty"):
        BenchmarkTable.build({"CUTE": []}, {"CUTE": {STUDENT_LOW_RES: []}})


def test_sets_must_have_the_same_readers_and_all_their_words():
    with pytest.raises(ValueError, match="2 predictions for 1 labels"):
        BenchmarkTable.build({"a": ["x"]}, {"a": {STUDENT_LOW_RES: ["x", "y"]}})
    with pytest.raises(ValueError, match="set b was read by other readers than a"):
        BenchmarkTable.build({"a": ["x"], "b": ["y"]}, {"a": {STUDENT_LOW_RES: ["x"]}, "b": {TEACHER_ENLARGED: ["y"]}})


@pytest.mark.parametrize("column", [TEACHER_HIGH_RES, Column("student_low_res", "run: 2")])
def test_a_column_is_found_again_by_its_key(column):
    assert Column.parse(column.key) == column


def test_an_unknown_column_is_refused():
    with pytest.raises(ValueError, match="'student_lr' is no column"):
        Column.parse("student_lr")
