"""Which texts name places in a store, and what lies under them."""

from __future__ import annotations

from pathlib import Path

import pytest

from kdltr_core.uri import is_uri, local_path, under


@pytest.mark.parametrize(
    ("text", "is_one"),
    [
        ("s3://bucket/sets/IC13", True),
        ("gs://bucket", True),
        ("file:///data/IC13", True),
        ("abfs://container@account.dfs.core.windows.net/sets", True),
        ("/data/IC13", False),
        ("sets/IC13", False),
        ("bundled", False),
        ("", False),
        ("C://data", False),
        ("/data/s3://bucket", False),
    ],
)
def test_a_uri_has_a_scheme(text: str, is_one: bool) -> None:
    assert is_uri(text) is is_one


def test_a_file_uri_names_a_path() -> None:
    assert local_path("file:///data/two%20words") == Path("/data/two words")
    assert local_path("s3://bucket/data") is None


@pytest.mark.parametrize(
    ("uri", "expected"),
    [
        ("s3://bucket/runs", "s3://bucket/runs/first/student"),
        ("s3://bucket/runs/", "s3://bucket/runs/first/student"),
        ("s3://bucket", "s3://bucket/first/student"),
        ("s3://bucket/runs?region=eu-west-1", "s3://bucket/runs/first/student?region=eu-west-1"),
    ],
)
def test_what_lies_under_a_place_keeps_its_query(uri: str, expected: str) -> None:
    assert under(uri, "first", "student") == expected
