"""Recipes: functions that return complete, validated runs. A reader sees what differs from the published one."""

from __future__ import annotations

from collections.abc import Callable

from kdltr_core.config import RunConfig


def parseq_ltr() -> RunConfig:
    """PARSeq base with the published losses and schedule (rates times 0.1 every 25 epochs; nil after about 100).

    Its teacher does not come with the package: give a checkpoint with --recognizer.teacher-weights.
    """
    return RunConfig(recipe="parseq_ltr").override({"recognizer.name": "parseq"})


def parseq_tiny_ltr() -> RunConfig:
    """PARSeq-tiny with the bundled teacher: higher rates than the published, annealed over fewer epochs."""
    return parseq_ltr().override(
        {
            "recipe": "parseq_tiny_ltr",
            "recognizer.name": "parseq_tiny",
            "num_epochs": 30.0,
            "optim.learning_rate": 3e-4,
            "optim.fast_learning_rate": 6e-4,
            "optim.schedule": "cosine",
            "optim.warmup_steps": 50,
        }
    )


def parseq_tiny_from_base_ltr() -> RunConfig:
    """PARSeq-tiny taught by PARSeq base through linear maps of its features; it starts from the bundled tiny teacher.

    The teacher does not come with the package: give a checkpoint with --recognizer.teacher-weights.
    """
    return parseq_tiny_ltr().override(
        {
            "recipe": "parseq_tiny_from_base_ltr",
            "recognizer.teacher_name": "parseq",
            "recognizer.start_weights": "bundled",
        }
    )


def abinet_ltr() -> RunConfig:
    """ABINet with the published losses and schedule; the fused logits are distilled.

    Its teacher does not come with the package: give a checkpoint with --recognizer.teacher-weights.
    """
    return RunConfig(recipe="abinet_ltr").override({"recognizer.name": "abinet"})


def abinet_vision_ltr() -> RunConfig:
    """ABINet's vision part alone, with the published losses and schedule.

    Its teacher does not come with the package: give a checkpoint with --recognizer.teacher-weights.
    """
    return abinet_ltr().override({"recipe": "abinet_vision_ltr", "recognizer.name": "abinet_vision"})


def matrn_ltr() -> RunConfig:
    """MATRN with the published losses and schedule.

    Its teacher does not come with the package: give a checkpoint with --recognizer.teacher-weights.
    """
    return abinet_ltr().override({"recipe": "matrn_ltr", "recognizer.name": "matrn"})


def demo() -> RunConfig:
    """A few minutes on two CPU cores: two workers, words rendered on the spot as an interlaced camera shows them."""
    return parseq_tiny_ltr().override(
        {
            "recipe": "demo",
            "workers": 2,
            "num_steps": 100,
            "validate_every": 25,
            "checkpoint_every": 25,
            "log_every": 5,
            "data.num_rendered_train": 4000,
            "optim.batch_size": 32,
            "optim.warmup_steps": 10,
        }
    )


_ALL = (
    parseq_ltr,
    parseq_tiny_ltr,
    parseq_tiny_from_base_ltr,
    abinet_ltr,
    abinet_vision_ltr,
    matrn_ltr,
    demo,
)
RECIPES: dict[str, Callable[[], RunConfig]] = {recipe.__name__: recipe for recipe in _ALL}
DEFAULT_RECIPE = "parseq_tiny_ltr"
