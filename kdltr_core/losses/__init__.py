"""The terms of the loss, one a file, and the objective in which they meet."""

from kdltr_core.losses.objective import LossTerms, compute_terms
from kdltr_core.losses.semantic_contrast import Projector

__all__ = ["LossTerms", "Projector", "compute_terms"]
