"""The terms of the loss, one a file, and the objective in which they meet."""

from kdltr_core.losses.objective import LossTerms, compute_terms, term_weights
from kdltr_core.losses.recognition import recognition
from kdltr_core.losses.semantic_contrast import Projector, semantic_contrast
from kdltr_core.losses.sequence_targets import SequenceTargets, sequence_targets
from kdltr_core.losses.soft_logits import soft_logits
from kdltr_core.losses.visual_focus import focus_mask, visual_focus

__all__ = [
    "LossTerms",
    "Projector",
    "SequenceTargets",
    "compute_terms",
    "focus_mask",
    "recognition",
    "semantic_contrast",
    "sequence_targets",
    "soft_logits",
    "term_weights",
    "visual_focus",
]
