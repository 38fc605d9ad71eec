"""Who is compared: objectives by name with their changes, and what cannot be compared."""

from __future__ import annotations

import pytest

from kdltr_core.config import RunConfig
from pipelines.sweep.objectives import OBJECTIVES, candidate_fields

CONFIG = RunConfig(name="compared", num_steps=10)


@pytest.mark.parametrize("name", OBJECTIVES)
def test_candidates_differ_in_the_objective_and_nothing_else(name: str) -> None:
    changed = CONFIG.override(candidate_fields(name, CONFIG)).flatten()
    differing = {field for field, value in CONFIG.flatten().items() if changed[field] != value}
    allowed = {"objective.name"} | ({"recognizer.student_start"} if name == "distillation_published" else set())
    assert differing <= allowed


def test_changes_follow_a_name_and_are_values_as_the_config_has_them() -> None:
    fields = candidate_fields("distillation+objective.cross-entropy=0.5+optim.ema_decay=0.9", CONFIG)
    assert fields == {"objective.name": "distillation", "objective.cross_entropy": 0.5, "optim.ema_decay": 0.9}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("dlt", "did you mean 'dld'"),
        ("dld+objective.soft_temperature", r"\+field=value"),
        ("dld+objective.soft_temperature=-1", "dld.* cannot be compared here"),
        ("dld+objective.soft_temperatur=1", "did you mean 'objective.soft_temperature'"),
        ("dld+data.validation_fraction=0.1", "--data.validation-fraction"),
    ],
)
def test_what_cannot_be_compared_is_refused(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        candidate_fields(text, CONFIG)
