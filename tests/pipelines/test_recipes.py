"""Recipes are complete runs, and each differs from its neighbour where its docstring says so."""

from __future__ import annotations

import pytest

from kdltr_core.config import RunConfig
from pipelines.recipes import DEFAULT_RECIPE, RECIPES, demo, parseq_ltr, parseq_tiny_ltr
from pipelines.run.checks import check_files


@pytest.mark.parametrize("name", sorted(RECIPES))
def test_a_recipe_is_a_valid_run_that_survives_yaml(name: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    config = RECIPES[name]()
    path = tmp_path_factory.mktemp("recipe") / "config.yaml"
    path.write_text(config.to_yaml())
    assert RunConfig.from_yaml(path) == config
    assert config.recipe == name


def test_parseq_ltr_is_the_published_run() -> None:
    """Guo et al. 2023, supplement: Adam (0.5, 0.999), 5e-5 and 1e-4, ×0.1 every 25 epochs, batch 64, clip 0.25."""
    config = parseq_ltr()
    optim, objective = config.optim, config.objective
    assert (optim.beta1, optim.learning_rate, optim.fast_learning_rate) == (0.5, 5e-5, 1e-4)
    assert (optim.schedule, optim.decay_epochs) == ("step", 25.0)
    assert (optim.batch_size, optim.clip_norm) == (64, 0.25)
    weights = (objective.visual_focus, objective.semantic_contrast, objective.soft_logits, objective.cross_entropy)
    assert weights == (4.0, 2.0, 20.0, 0.025)
    assert config.recognizer.name == "parseq"


def test_the_default_recipe_and_the_demo_need_no_file_from_the_user() -> None:
    assert RECIPES[DEFAULT_RECIPE] is parseq_tiny_ltr
    for config in (parseq_tiny_ltr(), demo()):
        assert config.recognizer.teacher_weights == "bundled"
        assert config.data.train_roots == config.data.benchmark_roots == ()
    assert demo().workers == 2


@pytest.mark.parametrize("name", [name for name in RECIPES if name.endswith("_supervised")])
def test_a_supervised_recipe_makes_a_teacher_or_a_student_without_any_file(name: str) -> None:
    """Official configs: Adam (0.9, 0.999), gradients clipped at 20; 7e-4 for PARSeq, 1e-4 for ABINet and MATRN."""
    config = RECIPES[name]()
    check_files(config)
    assert config.recognizer.trained == "teacher"
    rate = 7e-4 if "parseq" in name else 1e-4
    optim = config.optim
    assert (optim.learning_rate, optim.fast_learning_rate) == (rate, rate)
    assert (optim.beta1, optim.clip_norm) == (0.9, 20.0)
    student = config.override({"recognizer.resolution": "low_res"})
    check_files(student)
    assert student.recognizer.trained == "student"
