"""Pre-training of the language part: its words, how they are misspelt, and what is learnt of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from rapidfuzz.distance import Levenshtein

from kdltr_core.charset import Charset36
from kdltr_core.recognizers.abinet import Abinet, AbinetSize, LanguageModel
from kdltr_core.recognizers.weights import load_part
from kdltr_core.train.language import (
    LANGUAGE_FILE,
    Correction,
    LanguageConfig,
    _loss,
    build_language_model,
    bundled_word_list,
    correct,
    misspell,
    pretrain,
    read_word_list,
    split_words,
)

WORDS = ("station", "parking", "library", "market", "bakery", "hospital", "pharmacy", "avenue", "entrance", "office")
SMALL = AbinetSize(
    planes=(8, 8, 8, 16, 64),
    blocks=(1,) * 5,
    num_heads=4,
    feedforward=64,
    vision_depth=1,
    language_depth=1,
    dropout=0.1,
)


def small_model() -> LanguageModel:
    torch.manual_seed(0)
    return build_language_model(SMALL)


def config_of(**values: object) -> LanguageConfig:
    given = {"num_steps": 6, "batch_size": 4, "checkpoint_every": 2, "precision": "float32", "learning_rate": 1e-3}
    return LanguageConfig(**(given | values))  # type: ignore[arg-type]


def test_words_that_were_learnt_are_corrected_better_than_by_leaving_readings_as_they_are(tmp_path: Path) -> None:
    config = config_of(num_steps=150, batch_size=32, learning_rate=5e-3, checkpoint_every=150)
    model = small_model()
    train, held_out = split_words(WORDS, config.held_out_fraction)
    before = correct(model, train, config)
    of_held_out = pretrain(model, WORDS, config, tmp_path)
    after = correct(model, train, config)
    assert before.num_corrected == 0
    assert (before.num_wrong, before.num_right) == (after.num_wrong, after.num_right)
    assert after.num_wrong + after.num_right == 10 * len(train)
    assert after.num_corrected > after.num_wrong / 2
    # Of all readings more are right than were: it does not spoil what it should keep.
    assert after.num_corrected + after.num_kept > after.num_right
    assert of_held_out.num_wrong + of_held_out.num_right == 10 * len(held_out)


def test_what_is_learnt_is_the_right_word_of_the_wrong_reading() -> None:
    model = small_model().eval()
    reading = torch.zeros(1, 26, Charset36.num_classes)
    reading[0, torch.arange(26), torch.tensor([*Charset36.encode("statoin"), *[Charset36.end_id] * 19])] = 1.0
    logits = model(reading, torch.tensor([8]))[1][0, :8]
    expected = F.cross_entropy(logits, torch.tensor([*Charset36.encode("station"), Charset36.end_id]))
    torch.testing.assert_close(_loss(model, ["station"], ["statoin"], "float32"), expected)


def test_an_interrupted_training_ends_with_the_same_weights_and_only_goes_on_with_the_same_settings(
    tmp_path: Path,
) -> None:
    class Interrupted(Exception):
        pass

    def cut(done: int, total: int) -> None:
        if done == 5:
            raise Interrupted

    whole, resumed = small_model(), small_model()
    pretrain(whole, WORDS, config_of(), tmp_path / "whole")
    with pytest.raises(Interrupted):
        pretrain(small_model(), WORDS, config_of(), tmp_path / "cut", progress=cut)
    seen: list[int] = []
    pretrain(resumed, WORDS, config_of(), tmp_path / "cut", progress=lambda done, total: seen.append(done))
    assert seen == [5, 6]
    assert all(torch.equal(value, resumed.state_dict()[key]) for key, value in whole.state_dict().items())

    with pytest.raises(ValueError, match=r"begun with learning_rate 0\.001, now 0\.002; give another output folder"):
        pretrain(small_model(), WORDS, config_of(learning_rate=2e-3), tmp_path / "cut")
    with pytest.raises(ValueError, match="begun with words"):
        pretrain(small_model(), WORDS[1:], config_of(), tmp_path / "cut")


def test_the_file_fits_the_language_part_of_an_abinet(tmp_path: Path) -> None:
    model = small_model()
    pretrain(model, WORDS, config_of(num_steps=1), tmp_path)
    abinet = Abinet((16, 64), SMALL)
    load_part(abinet, "language", tmp_path / LANGUAGE_FILE)
    assert all(torch.equal(value, abinet.language.state_dict()[key]) for key, value in model.state_dict().items())


def test_a_loss_that_is_not_finite_is_refused_with_the_way_out(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="give a lower learning_rate"):
        pretrain(small_model(), WORDS, config_of(learning_rate=1e30), tmp_path)


@pytest.mark.parametrize("values", [{"num_steps": 0}, {"held_out_fraction": 0.5}, {"learning_rate": -1.0}])
def test_settings_out_of_range_are_refused(values: dict[str, object]) -> None:
    ((name, value),) = values.items()
    with pytest.raises(ValueError, match=f"{name} is {value}"):
        config_of(**values)


def test_a_correction_is_told_in_shares_of_wrong_and_right_readings() -> None:
    assert Correction(num_wrong=40, num_corrected=10, num_right=60, num_kept=57).describe() == (
        "25.0 % of 40 wrong predictions of held-out words corrected, 95.0 % of 60 right ones kept"
    )


def misspelt(word: str, count: int) -> list[str]:
    rng = np.random.default_rng(0)
    return [misspell(word, rng) for _ in range(count)]


def test_three_words_in_ten_are_wrong() -> None:
    """Fewer by those whose letter was replaced by itself: at most 1 in 26."""
    count = 20_000
    share = np.mean([reading != "parking" for reading in misspelt("parking", count)])
    error = 4 * np.sqrt(0.3 * 0.7 / count)
    assert 0.3 * (1 - 0.7 / 26) - error < share < 0.3 + error


def test_one_touched_place_is_replaced_preceded_or_left_out_as_often_as_said() -> None:
    """Of a word of four letters one place at most is touched, so that its length tells what happened."""
    lengths = np.array([len(reading) for reading in misspelt("taxi", 20_000)])
    touched = 0.3
    for length, share in ((5, 0.15), (3, 0.15), (4, None)):
        expected = touched * share if share else 1 - touched * 0.3
        assert np.mean(lengths == length) == pytest.approx(expected, abs=4 * np.sqrt(expected / len(lengths)))


@pytest.mark.parametrize(("word", "most"), [("abcdefghij", 3), ("abcde", 2), ("abcd", 1)])
def test_long_words_have_up_to_three_mistakes_and_short_ones_one(word: str, most: int) -> None:
    assert max(Levenshtein.distance(word, reading) for reading in misspelt(word, 2000)) == most


@pytest.mark.parametrize("word", ["a", "7", "2024", "ab12", "m25"])
def test_what_follows_no_spelling_stays(word: str) -> None:
    assert set(misspelt(word, 500)) == {word}


def test_a_misspelt_word_is_never_empty_nor_too_long() -> None:
    longest = "z" * 25
    lengths = {len(reading) for word in ("ab", longest) for reading in misspelt(word, 3000)}
    assert min(lengths) == 1
    assert max(lengths) == 25


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
