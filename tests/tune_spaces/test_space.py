"""Search spaces: what the shipped ones hold, and how one that cannot be searched is refused."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from kdltr_core.config import RunConfig
from tune_spaces import SPACES
from tune_spaces.space import load_space

# Supplement of the paper: what its students were distilled with.
PUBLISHED = {
    "objective.visual_focus": 4.0,
    "objective.semantic_contrast": 2.0,
    "objective.soft_logits": 20.0,
    "objective.cross_entropy": 0.025,
    "objective.soft_temperature": 4.0,
    "objective.contrast_temperature": 0.1,
    "objective.sequence_mix": 0.2,
}


@pytest.mark.parametrize("name", SPACES)
def test_a_shipped_space_holds_the_point_it_has_to_beat(name: str) -> None:
    space = load_space(name)
    point = RunConfig().flatten() | PUBLISHED
    assert space.holds({field: point[field] for field in space.distributions})


def test_the_published_weights_but_the_label_s_lie_in_the_middle_of_their_scales() -> None:
    for name in ("objective.visual_focus", "objective.semantic_contrast", "objective.soft_logits"):
        weight: Any = load_space("loss_weights").distributions[name]
        assert weight.log
        assert math.sqrt(weight.low * weight.high) == pytest.approx(PUBLISHED[name])


def test_joint_searches_weights_and_temperatures() -> None:
    assert set(load_space("joint").distributions) == set(PUBLISHED)


def test_a_file_of_one_s_own_is_a_space_with_points_to_try_first(tmp_path: Path) -> None:
    path = tmp_path / "mine.py"
    path.write_text(
        "from ray import tune\n"
        "SPACE = {'optim.learning_rate': tune.loguniform(1e-5, 1e-3),\n"
        "         'optim.schedule': tune.choice(['step', 'cosine']), 'optim.warmup_steps': tune.randint(0, 4)}\n"
        "POINTS = [{'optim.learning_rate': 1e-4, 'optim.schedule': 'step', 'optim.warmup_steps': 1}]\n"
    )
    space = load_space(str(path))
    assert space.describe()["optim.schedule"] == "CategoricalDistribution(choices=('step', 'cosine'))"
    own = {"optim.learning_rate": 1e-4, "optim.schedule": "step", "optim.warmup_steps": 1}
    assert space.points == (own,)
    assert space.holds(own)
    for outside in ({"optim.learning_rate": 0.9e-5}, {"optim.schedule": "constant"}, {"optim.warmup_steps": 4}):
        assert not space.holds(own | outside)


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("SPACE = {'optim.lerning_rate': tune.uniform(0.1, 1)}", "did you mean 'optim.learning_rate'?"),
        ("SPACE = {'objective.soft_logits': tune.uniform(-1, 1)}", r"goes too far: objective.soft_logits is -1"),
        ("SPACE = {'optim.schedule': tune.choice(['step', 'cosin'])}", "did you mean 'cosine'?"),
        ("SPACE = {'objective.soft_logits': tune.grid_search([2, 20])}", "cannot be automatically converted"),
        ("SPACE = {'objective.soft_logits': 20}", "from fields to ray.tune's uniform"),
        ("SPACE = {'seed': tune.randint(0, 9)}", "varies seed, .* --seed"),
        ("SPACES = {}", "holds no space"),
        ("SPACE = tune.uniform(0)", "cannot be run: TypeError"),
        (
            "SPACE = {'optim.beta1': tune.uniform(0, 0.9), 'optim.ema_decay': tune.uniform(0, 0.9)}\n"
            "POINTS = [{'optim.beta1': 0.5}]",
            "POINTS of the space .* has {'optim.beta1': 0.5}; expected points, each with a value for optim.beta1",
        ),
        ("SPACE = {'optim.beta1': tune.uniform(0, 0.9)}\nPOINTS = [{'optim.beta1': 2}]", "optim.beta1 is 2"),
    ],
)
def test_a_space_that_cannot_be_searched_is_refused_when_it_is_loaded(tmp_path: Path, source: str, said: str) -> None:
    path = tmp_path / "mine.py"
    path.write_text(f"from ray import tune\n{source}\n")
    with pytest.raises(ValueError, match=said):
        load_space(str(path))


@pytest.mark.parametrize(
    ("name", "said"),
    [("los_weights", "did you mean 'loss_weights'?"), ("/nowhere/mine.py", "or a Python file")],
)
def test_a_space_that_is_not_there_is_refused(name: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        load_space(name)
