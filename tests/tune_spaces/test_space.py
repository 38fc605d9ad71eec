"""Search spaces: what the shipped ones hold, and how one that cannot be searched is refused."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from ray import tune

from kdltr_core.config import RunConfig
from tune_spaces import SPACES, loss_weights
from tune_spaces.space import Space, load_space

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
    assert space.holds({field: point[field] for field in space.domains})


def test_the_published_weights_but_the_label_s_lie_in_the_middle_of_their_scales() -> None:
    described = load_space("loss_weights").describe()
    for name in ("objective.visual_focus", "objective.semantic_contrast", "objective.soft_logits"):
        assert described[name]["log"]
        assert math.sqrt(described[name]["low"] * described[name]["high"]) == pytest.approx(PUBLISHED[name])


def test_joint_searches_weights_and_temperatures() -> None:
    assert set(load_space("joint").domains) == set(PUBLISHED)


@pytest.mark.parametrize(
    ("domain", "low", "high"),
    [
        (tune.randint(1, 4), 1, 3),
        (tune.qrandint(2, 6, 2), 2, 6),
        (tune.lograndint(1, 5), 1, 4),
        (tune.uniform(0.0, 0.5), 0.0, 0.5),
    ],
)
def test_a_range_is_described_with_both_ends_that_ray_draws(
    domain: tune.search.sample.Domain, low: float, high: float
) -> None:
    described = Space("s", {"x": domain}).describe()["x"]
    assert (described["low"], described["high"]) == (low, high)
    drawn = [domain.sample() for _ in range(300)]
    assert min(drawn) >= low
    assert max(drawn) <= high
    if described["is_integer"]:
        assert {min(drawn), max(drawn)} == {low, high}


def test_a_file_of_one_s_own_is_a_space_with_points_to_try_first(tmp_path: Path) -> None:
    path = tmp_path / "mine.py"
    path.write_text(
        "from ray import tune\n"
        "SPACE = {'optim.learning_rate': tune.loguniform(1e-5, 1e-3),\n"
        "         'optim.schedule': tune.choice(['step', 'cosine'])}\n"
        "POINTS = [{'optim.learning_rate': 1e-4, 'optim.schedule': 'step'}]\n"
    )
    space = load_space(str(path))
    assert space.name == "mine"
    assert space.describe()["optim.schedule"] == {"choices": ("step", "cosine")}
    assert space.points == ({"optim.learning_rate": 1e-4, "optim.schedule": "step"},)
    assert space.holds({"optim.learning_rate": 1e-5, "optim.schedule": "cosine"})
    assert not space.holds({"optim.learning_rate": 0.9e-5, "optim.schedule": "cosine"})
    assert not space.holds({"optim.learning_rate": 1e-4, "optim.schedule": "constant"})


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("SPACE = {'optim.lerning_rate': tune.uniform(0.1, 1)}", "did you mean 'optim.learning_rate'?"),
        ("SPACE = {'objective.soft_logits': tune.uniform(-1, 1)}", r"goes too far: objective.soft_logits is -1"),
        ("SPACE = {'optim.schedule': tune.choice(['step', 'cosin'])}", "did you mean 'cosine'?"),
        ("SPACE = {'objective.soft_logits': tune.randn(20, 5)}", "one of ray.tune's uniform"),
        ("SPACE = {'objective.soft_logits': tune.qloguniform(2, 20, 2)}", "one of ray.tune's uniform"),
        ("SPACE = {'objective.soft_logits': tune.grid_search([2, 20])}", "one of ray.tune's uniform"),
        ("SPACE = {'objective.soft_logits': 20}", "has 20 for objective.soft_logits"),
        (
            "SPACE = {'objective.num_permutations': tune.randint(3, 4)}",
            "empty range for objective.num_perm.*: 3 … 3",
        ),
        ("SPACE = {'seed': tune.randint(0, 9)}", "varies seed, .* --seed"),
        ("SPACE = {'data.validation_fraction': tune.uniform(0.1, 0.2)}", "--data.validation-fraction"),
        ("SPACE = {}", "holds no space"),
        ("SPACES = {}", "holds no space"),
        ("SPACE = tune.uniform(0)", "cannot be run: TypeError"),
        (
            "SPACE = {'optim.beta1': tune.uniform(0, 0.9), 'optim.ema_decay': tune.uniform(0, 0.9)}\n"
            "POINTS = [{'optim.beta1': 0.5}]",
            "a point of the space .* has optim.beta1; expected a value for each of optim.beta1, optim.ema_decay",
        ),
        ("SPACE = {'optim.beta1': tune.uniform(0, 0.9)}\nPOINTS = [{'optim.beta1': 2}]", "optim.beta1 is 2"),
        ("SPACE = {'optim.beta1': tune.uniform(0, 0.9)}\nPOINTS = {'optim.beta1': 0.5}", "is no list of points"),
    ],
)
def test_a_space_that_cannot_be_searched_is_refused_when_it_is_loaded(tmp_path: Path, source: str, said: str) -> None:
    path = tmp_path / "mine.py"
    path.write_text(f"from ray import tune\n{source}\n")
    with pytest.raises(ValueError, match=said):
        load_space(str(path))


@pytest.mark.parametrize(
    ("name", "said"),
    [("los_weights", "did you mean 'loss_weights'?"), ("/nowhere/mine.py", "which is not a Python file")],
)
def test_a_space_that_is_not_there_is_refused(name: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        load_space(name)


def test_a_shipped_file_says_what_it_searches_and_holds_nothing_else() -> None:
    assert loss_weights.__doc__
    assert not hasattr(loss_weights, "POINTS")
