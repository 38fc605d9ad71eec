"""Recipes: functions that return complete, validated runs. A reader sees what differs from the published one.

The teachers of PARSeq base, ABINet and MATRN do not come with the package: --recognizer.teacher-weights.
"""

from __future__ import annotations

from collections.abc import Callable

from kdltr_core.config import RunConfig


def parseq_ltr() -> RunConfig:
    """PARSeq base with the published losses and schedule.

    Learning rates decay ×0.1 every 25 epochs, and are practically 0 after about 100.
    """
    return RunConfig(recipe="parseq_ltr").override({"recognizer.name": "parseq"})


def kd_ltr_published() -> RunConfig:
    """PARSeq base as Guo et al. 2023 trained it: a patch embedding of its own, 500 epochs.

    What still differs: sequence-level targets are searched for exactly and to the end of the word, where the public
    code stops after 100 expansions; the best student is chosen on held-out training words, there on the test sets;
    characters outside the alphabet are dropped from a label, there they end it.
    """
    return parseq_ltr().override(
        {
            "recipe": "kd_ltr_published",
            "recognizer.student_form": "published",
            "recognizer.student_start": "random_patch",
            "num_epochs": 500.0,
        }
    )


def parseq_tiny_ltr() -> RunConfig:
    """The default: PARSeq-tiny from the bundled teacher, with higher learning rates over 30 epochs."""
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


def everyday_ltr() -> RunConfig:
    """PARSeq-tiny on every kind of text, from real and synthetic low resolution.

    By cross entropy, as the student that comes with the package was trained; docs/reproduce/everyday.sh gives the words
    and what a GPU takes.
    """
    return parseq_tiny_ltr().override(
        {
            "recipe": "everyday_ltr",
            "data.train_degradation": "mixed",
            "data.benchmark_degradation": "camera",
            "data.num_rendered_beside_roots": 12_000,
            "objective.name": "supervised",
            "optim.batch_size": 32,
            "optim.learning_rate": 1e-4,
            "optim.fast_learning_rate": 1e-4,
            "optim.warmup_steps": 20,
            "optim.ema_decay": 0.99,
            "num_steps": 1800,
        }
    )


def abinet_ltr() -> RunConfig:
    """ABINet with the published losses and schedule.

    The fused logits are distilled.
    """
    return RunConfig(recipe="abinet_ltr").override({"recognizer.name": "abinet"})


def abinet_vision_ltr() -> RunConfig:
    """ABINet's vision part alone, with the published losses and schedule."""
    return abinet_ltr().override({"recipe": "abinet_vision_ltr", "recognizer.name": "abinet_vision"})


def matrn_ltr() -> RunConfig:
    """MATRN with the published losses and schedule."""
    return abinet_ltr().override({"recipe": "matrn_ltr", "recognizer.name": "matrn"})


def parseq_tiny_supervised() -> RunConfig:
    """A PARSeq-tiny teacher from labelled words alone.

    --recognizer.resolution low_res trains a student in the same way.

    Rates of the official training (Bautista and Atienza 2022, and its configs): Adam (0.9, 0.999), 7e-4 for a batch
    of 256, warm-up (officially 7.5 % of the steps), then cosine; clipped at 20. --recognizer.name parseq: the base.
    """
    return RunConfig(recipe="parseq_tiny_supervised").override(
        {
            "recognizer.name": "parseq_tiny",
            "recognizer.resolution": "high_res",
            "recognizer.student_start": "random",
            "objective.name": "supervised",
            "num_epochs": 60.0,
            "data.num_rendered_train": 50_000,
            "data.num_rendered_beside_roots": 50_000,
            "optim.batch_size": 256,
            "optim.beta1": 0.9,
            "optim.learning_rate": 7e-4,
            "optim.fast_learning_rate": 7e-4,
            "optim.schedule": "cosine",
            "optim.warmup_steps": 1000,
            "optim.clip_norm": 20.0,
        }
    )


def abinet_vision_supervised() -> RunConfig:
    """A teacher of ABINet's vision part from labelled words alone.

    Rates of the official vision pre-training (Fang et al. 2021, and its configs): Adam (0.9, 0.999), 1e-4, a tenth
    of it in the last quarter; batch 384; clipped at 20.
    """
    return parseq_tiny_supervised().override(
        {
            "recipe": "abinet_vision_supervised",
            "recognizer.name": "abinet_vision",
            "optim.batch_size": 384,
            "optim.learning_rate": 1e-4,
            "optim.fast_learning_rate": 1e-4,
            "optim.schedule": "step",
            "optim.decay_epochs": 45.0,
            "optim.warmup_steps": 0,
        }
    )


def abinet_supervised() -> RunConfig:
    """An ABINet teacher from labelled words alone.

    With vision, language and fused losses. As officially: readings corrected 3 times, a tenth of the rate in the
    last 4 of 10 parts. Officially it starts from parts trained before: --recognizer.language-weights takes the
    official language part.
    """
    return abinet_vision_supervised().override(
        {
            "recipe": "abinet_supervised",
            "recognizer.name": "abinet",
            "recognizer.num_iterations": 3,
            "optim.decay_epochs": 36.0,
        }
    )


def matrn_supervised() -> RunConfig:
    """A MATRN teacher from labelled words alone.

    With the losses of all its heads. Rates of the official training (Na et al. 2022, and its configs), which are
    ABINet's.
    """
    return abinet_supervised().override({"recipe": "matrn_supervised", "recognizer.name": "matrn"})


def demo() -> RunConfig:
    """A few minutes on two CPU cores: 100 steps on rendered words, two workers."""
    return parseq_tiny_ltr().override(
        {
            "recipe": "demo",
            "workers": 2,
            "num_steps": 100,
            "validate_every": 25,
            "checkpoint_every": 25,
            "log_every": 5,
            "data.num_rendered_train": 4000,
            "data.train_degradation": "interlaced",
            "data.benchmark_degradation": "interlaced",
            "optim.batch_size": 32,
            "optim.warmup_steps": 10,
        }
    )


_ALL = (
    parseq_tiny_ltr,
    demo,
    everyday_ltr,
    parseq_ltr,
    kd_ltr_published,
    abinet_ltr,
    abinet_vision_ltr,
    matrn_ltr,
    parseq_tiny_supervised,
    abinet_vision_supervised,
    abinet_supervised,
    matrn_supervised,
)
RECIPES: dict[str, Callable[[], RunConfig]] = {recipe.__name__: recipe for recipe in _ALL}
DEFAULT_RECIPE = "parseq_tiny_ltr"
