"""The weights of the four terms of the loss, on log scales around the published 4, 2, 20 and 0.025.

Multiplying all four by one number changes little under Adam: what is searched is their proportion.
"""

from ray import tune

SPACE = {
    "objective.visual_focus": tune.loguniform(0.4, 40.0),
    "objective.semantic_contrast": tune.loguniform(0.2, 20.0),
    "objective.soft_logits": tune.loguniform(2.0, 200.0),
    # Further up than down: as published, the label has next to no say.
    "objective.cross_entropy": tune.loguniform(0.0025, 2.5),
}
