"""Word lists: what is taken from a file, and what is held out."""

from __future__ import annotations

from pathlib import Path

import pytest

from kdltr_core.charset import Charset36
from kdltr_core.train.language import bundled_word_list, read_word_list, split_words

TWENTY = [f"word{i}" for i in range(20)]


def test_words_are_folded_to_the_alphabet_once_each_and_in_order(tmp_path: Path) -> None:
    file = tmp_path / "words.txt"
    file.write_text("\n".join([*TWENTY, "Don't", "dont", "", "---", "x" * 26, "é7"]), encoding="utf-8")
    assert read_word_list(file, Charset36) == (*TWENTY, "dont", "e7")


def test_a_file_that_is_no_word_list_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="cannot be read as UTF-8 text"):
        read_word_list(tmp_path / "nowhere.txt", Charset36)
    (tmp_path / "bytes").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ValueError, match="cannot be read as UTF-8 text"):
        read_word_list(tmp_path / "bytes", Charset36)
    (tmp_path / "few").write_text("one\ntwo\ntwo\n")
    with pytest.raises(ValueError, match="2 usable words, expected at least 20"):
        read_word_list(tmp_path / "few", Charset36)


def test_every_word_is_on_one_side_whatever_the_order_and_company() -> None:
    words = bundled_word_list(Charset36)
    train, held_out = split_words(words, 0.05)
    assert sorted([*train, *held_out]) == sorted(words)
    assert 0.02 < len(held_out) / len(words) < 0.08
    assert set(split_words([*reversed(words), "another"], 0.05)[1]) - {"another"} == set(held_out)
    assert [len(part) for part in split_words(TWENTY[:2], 1e-9)] == [1, 1]
