"""Feature distance: the student's feature maps as near to the teacher's as possible."""

from __future__ import annotations

from torch import Tensor


def feature_distance(student: Tensor, teacher: Tensor) -> Tensor:
    """Mean squared difference of the features (Zhu et al. 2019, deep feature distillation for low resolution).

    Args:
        student: (N, C, L), any float type; computed in float32.
        teacher: (N, C, L); no gradient flows into it.

    Returns: scalar, mean over images, channels and positions.
    """
    return (student.float() - teacher.detach().float()).square().mean()
