"""When all trials of a sweep share the teacher's outputs, and when each asks it anew."""

from __future__ import annotations

import pytest
from ray import tune

from kdltr_core.config import RunConfig
from pipelines.sweep.options import SweepOptions
from pipelines.sweep.teacher_cache import why_not_kept
from tune_spaces.space import Space, load_space

WEIGHTS = {"objective.soft_logits": tune.loguniform(2.0, 200.0)}
LABEL_ALONE = {f"objective.{name}": 0.0 for name in ("visual_focus", "semantic_contrast", "soft_logits")}


@pytest.mark.parametrize(
    ("changes", "options", "domains", "why_not"),
    [
        ({"num_steps": 100}, {}, {}, ""),
        (LABEL_ALONE, {}, {}, "the loss has no use for it"),
        ({}, {}, {"data.train_degradation_strength": tune.uniform(0.0, 2.0)}, ""),  # which low_res alone knows
        ({}, {}, {"data.num_rendered_beside_roots": tune.choice([0, 9])}, "trials by data.num_rendered_beside_roots"),
        ({}, {}, {"recognizer.teacher_weights": tune.choice(["a", "b"])}, "trials by recognizer.teacher_weights"),
        # 10 trials of 100 steps of 64 pairs are 64,000 images.
        ({"num_steps": 100}, {"num_trials": 10}, {}, ""),
        ({"num_steps": 100}, {"num_trials": 9}, {}, "57,600 images, fewer than the 64,000"),
        ({"num_steps": 900}, {"num_trials": 9, "trial_steps": 100}, {}, "57,600 images, fewer than the 64,000"),
        # The confirmation of one point trains it and the published one at full length.
        ({"num_steps": 900}, {"num_trials": 9, "trial_steps": 100, "confirm": 1, "confirm_seeds": 1}, {}, ""),
    ],
)
def test_outputs_are_kept_where_trials_ask_for_the_same_ones_again(
    changes: dict[str, object], options: dict[str, int], domains: dict[str, object], why_not: str
) -> None:
    space = Space("s", {**WEIGHTS, **domains})
    said = why_not_kept(RunConfig().override(changes), SweepOptions.model_validate(options), space, 64_000)
    assert why_not in said
    assert bool(said) == bool(why_not)


@pytest.mark.parametrize("name", ["loss_weights", "temperatures", "optimisation", "joint"])
def test_the_spaces_of_the_house_leave_the_teacher_s_images_alone(name: str) -> None:
    assert why_not_kept(RunConfig(), SweepOptions(), load_space(name), 17_000) == ""
