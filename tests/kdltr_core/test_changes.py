"""What a run may change while it trains, as text: read, refused, and asked for at a step."""

from __future__ import annotations

import pytest

from kdltr_core.changes import CHANGEABLE, Change, parse_change
from kdltr_core.config import RunConfig

SOFT, RATE = "objective.soft_logits", "optim.learning_rate"


@pytest.mark.parametrize(
    ("text", "percent", "values"),
    [
        ("25% objective.soft_logits=40", 25.0, {SOFT: 40}),
        ("12.5%  objective.soft_logits=0.1   optim.learning_rate=1e-4", 12.5, {SOFT: 0.1, RATE: 1e-4}),
        ("99.9% objective.num_paths=3", 99.9, {"objective.num_paths": 3}),
        ("50% objective.log_prob_floor=-12", 50.0, {"objective.log_prob_floor": -12}),
    ],
)
def test_a_change_is_read_and_written_without_loss(text: str, percent: float, values: dict[str, float]) -> None:
    change = parse_change(text)
    assert (change.percent, change.values) == (percent, values)
    assert parse_change(change.to_text()) == change


def test_every_digit_survives() -> None:
    change = Change(100 * 1 / 3, {SOFT: 0.1 + 0.2, RATE: 1.2345678901234567e-5})
    assert parse_change(change.to_text()) == change


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (("",), "cannot be read, expected such as"),
        (("objective.soft_logits=40",), "cannot be read"),
        (("25%",), "cannot be read"),
        (("25 objective.soft_logits=40",), "cannot be read"),
        (("25% objective.soft_logits=many",), "'objective.soft_logits=many'"),
        (("25% objective.soft_logits=nan",), "'objective.soft_logits=nan'"),
        (("0% objective.soft_logits=40",), "at 0 % of the run, expected between 0 and 100"),
        (("100% objective.soft_logits=40",), "at 100 % of the run"),
        (("25% optim.batch_size=8",), "'optim.batch_size', which cannot change while a run trains; what can: "),
        (("25% objective.soft_logits=-1",), "the change at 25 %: objective.soft_logits is -1: "),
        (("25% objective.num_paths=2.5",), "the change at 25 %: objective.num_paths is 2.5: "),
        (("25% objective.soft_logits=0",), "sets objective.soft_logits to 0, and it begins as 20"),
        (("50% optim.learning_rate=1", "25% optim.learning_rate=2"), "at 25 % is given after the one at 50 %"),
    ],
)
def test_what_cannot_be_is_refused_with_the_way_out(changes: tuple[str, ...], said: str) -> None:
    with pytest.raises(ValueError) as refused:  # noqa: PT011
        RunConfig().override({"changes": changes})
    assert said in str(refused.value)


def test_a_term_that_is_not_computed_cannot_come() -> None:
    without = {"objective.semantic_contrast": 0.0, "changes": ("25% objective.semantic_contrast=2",)}
    with pytest.raises(ValueError, match="begins as 0: a term of weight 0 is not computed"):
        RunConfig().override(without)


@pytest.mark.parametrize(
    ("step", "num_steps", "soft_logits", "rate"),
    [
        (0, 100, 20.0, 5e-5),
        (32, 100, 20.0, 5e-5),
        (33, 100, 40.0, 5e-5),
        (66, 100, 40.0, 5e-5),
        (67, 100, 9.0, 1e-3),
        (0, 3, 20.0, 5e-5),
        (1, 3, 40.0, 5e-5),
        (2, 3, 9.0, 1e-3),
    ],
)
def test_the_values_of_a_step_are_those_of_the_changes_before_it(
    step: int, num_steps: int, soft_logits: float, rate: float
) -> None:
    texts = ("33% objective.soft_logits=40", "66.7% objective.soft_logits=9 optim.learning_rate=1e-3")
    config = RunConfig().override({"changes": texts}).at(step, num_steps)
    assert (config.objective.soft_logits, config.optim.learning_rate) == (soft_logits, rate)
    assert config.changes == ()


def test_every_field_that_may_change_is_a_number_of_a_run() -> None:
    flat = RunConfig().flatten()
    assert all(isinstance(flat[name], int | float) for name in CHANGEABLE)
