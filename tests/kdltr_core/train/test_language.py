"""Pre-training of the language part: it learns its words, goes on where it stopped, and fits its place in an ABINet."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from kdltr_core.charset import Charset36
from kdltr_core.recognizers.abinet import Abinet, AbinetSize, LanguageModel
from kdltr_core.recognizers.weights import load_part
from kdltr_core.train.language import (
    LANGUAGE_FILE,
    Correction,
    LanguageConfig,
    _loss,
    build_language_model,
    correct,
    pretrain,
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
