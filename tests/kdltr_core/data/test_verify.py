from __future__ import annotations

from pathlib import Path

from kdltr_core.data.verify import to_markdown, verify
from tests.kdltr_core.data.sets import paired_records, single_records, write_records


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
    """What the literature counts goes by the first word of the folder's name."""
    names, records = ("CUTE80", "ic13-test", "my_words"), single_records(["a", ""])
    table = to_markdown([verify(write_records(tmp_path / name, records)) for name in names]).splitlines()[2:]
    rejected = "1 of 2 rejected: 1 empty label (image-000000002)"
    assert table == [
        f"| CUTE80 | single | 2 | expected 288 samples; {rejected} |",
        f"| ic13-test | single | 2 | expected 857 or 1015 samples; {rejected} |",
        f"| my_words | single | 2 | {rejected} |",
    ]
