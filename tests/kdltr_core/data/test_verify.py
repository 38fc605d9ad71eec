from __future__ import annotations

from pathlib import Path

import pytest

from kdltr_core.data.verify import expected_counts, to_markdown, verify
from tests.kdltr_core.data.sets import paired_records, single_records, write_records


@pytest.mark.parametrize(
    ("name", "counts"),
    [
        ("easy", {1619}),
        ("medium", {1411}),
        ("hard", {1343}),
        ("IC13", {857, 1015}),
        ("IC13_857", {857}),
        ("ic13-1015", {1015}),
        ("IC15", {1811, 2077, 4468}),
        ("IC15_2077", {2077}),
        ("CUTE80", {288}),
        ("SVT", {647, 257}),
        ("SVTP", {645}),
        ("IIIT5K", {2000, 3000}),
        ("my_words", set()),
        ("train1", set()),
    ],
)
def test_counts_of_the_literature_by_folder_name(name: str, counts: set[int]) -> None:
    assert set(expected_counts(name)) == counts


def test_a_whole_set_has_no_problems(tmp_path: Path) -> None:
    row = verify(write_records(tmp_path / "words", paired_records(["a", "long word"])))
    assert (row.name, row.kind, row.report.num_samples, row.problems) == ("words", "paired", 2, [])


def test_both_sides_of_every_pair_are_decoded(tmp_path: Path) -> None:
    records = paired_records(["a", "b", "c"])
    records["image_lr-000000002"] = records["image_lr-000000002"][:60]
    del records["image_hr-000000003"]
    row = verify(write_records(tmp_path / "words", records))
    assert row.report.keys == {"corrupt image": ["image_hr-000000002"], "missing image": ["image_hr-000000003"]}


def test_a_wrong_count_and_a_bad_record_are_problems_of_the_table(tmp_path: Path) -> None:
    row = verify(write_records(tmp_path / "CUTE80", single_records(["a", ""])))
    table = to_markdown([row]).splitlines()
    assert table[-1] == (
        "| CUTE80 | single | 2 | expected 288 samples; 1 of 2 rejected: 1 empty label (image-000000002) |"
    )
