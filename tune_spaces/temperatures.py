"""How soft the soft targets are, and how much of them comes from whole paths instead of single steps."""

from ray import tune

SPACE = {
    "objective.soft_temperature": tune.loguniform(1.0, 12.0),
    "objective.contrast_temperature": tune.loguniform(0.02, 0.5),
    "objective.sequence_mix": tune.uniform(0.0, 0.8),
}
