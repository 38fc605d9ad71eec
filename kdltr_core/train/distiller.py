"""Student and projector, which are trained, and the teacher beside them, which is not."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn

from kdltr_core.config import ObjectiveConfig
from kdltr_core.data.images import as_float
from kdltr_core.losses.objective import SEMANTIC_TERMS, VISUAL_TERMS, LossTerms, compute_terms, term_weights
from kdltr_core.losses.semantic_contrast import Projector
from kdltr_core.recognizers import Recognizer, RecognizerOutput


class Distiller(nn.Module):
    """What data-parallel training wraps: every trainable weight of a run, and the loss.

    Args:
        student: reads low_res.
        config: the terms and their weights.
        teacher: whose widths the student's features are compared in; it does not become part of this module.
            None: the student's own widths.

    Attributes:
        projector: of semantic contrast; None without that term.
        visual_projection, semantic_projection: linear maps to the teacher's widths, where those differ; they are
            trained beside the student and then left behind. Else None.
    """

    def __init__(self, student: Recognizer, config: ObjectiveConfig, teacher: Recognizer | None = None) -> None:
        super().__init__()
        self.student = student
        self.config = config
        model = teacher or student
        terms = term_weights(config).keys()
        channels, widths = (
            (student.visual_shape[0], model.visual_shape[0]),
            (student.semantic_width, model.semantic_width),
        )
        self.projector = Projector(model.semantic_width) if "semantic_contrast" in terms else None
        differs = terms & VISUAL_TERMS and channels[0] != channels[1]
        self.visual_projection = nn.Conv1d(*channels, 1) if differs else None
        differs = terms & SEMANTIC_TERMS and widths[0] != widths[1]
        self.semantic_projection = nn.Linear(*widths) if differs else None

    def forward(
        self,
        images: Tensor,
        targets: Tensor,
        lengths: Tensor,
        permutations: Tensor,
        teacher: RecognizerOutput | None,
        num_valid_steps: Tensor | None = None,
        rows: Tensor | None = None,
        weights: Tensor | None = None,
    ) -> LossTerms:
        """The terms of the loss for one batch.

        Args:
            images: (N, 3, h, w) uint8, what the student reads.
            targets, lengths: as in ``Batch``.
            permutations: (P, T + 1).
            teacher: the teacher's forward pass on the same words and permutations; None where it is not needed.
            num_valid_steps: scalar; see ``losses.recognition``.
            rows: see ``losses.semantic_contrast``.
            weights: (N,), of the labels; see ``losses.recognition``.
        """
        output = self.student.forward_training(as_float(images), targets, permutations)
        if self.visual_projection is not None:
            output = replace(output, visual=self.visual_projection(output.visual))
        if self.semantic_projection is not None and output.semantic is not None:
            output = replace(output, semantic=self.semantic_projection(output.semantic))
        steps = (targets, lengths, num_valid_steps, rows, weights)
        return compute_terms(self.config, output, teacher, self.projector, *steps)


@torch.no_grad()
def teach(teacher: Recognizer, high_res: Tensor, targets: Tensor, permutations: Tensor) -> RecognizerOutput:
    """The teacher's forward pass on high_res (N, 3, 32, 128) uint8, which no gradient enters."""
    return teacher.decode(teacher.encode(as_float(high_res)), targets, permutations)


def check_pair(student: Recognizer, teacher: Recognizer) -> None:
    """Raises: ValueError if the two cannot be compared step by step and position by position."""
    for what, mine, theirs in (
        ("alphabet", student.charset.name, teacher.charset.name),
        ("use of permutations", student.uses_permutations, teacher.uses_permutations),
        ("number of visual positions", student.visual_shape[1], teacher.visual_shape[1]),
    ):
        if mine != theirs:
            raise ValueError(
                f"student and teacher differ in their {what}: {mine} and {theirs}; choose recognizer.teacher_name "
                "of the student's family: abinet_vision, abinet and matrn teach one another, as do parseq, parseq_tiny"
            )


def needs_teacher(config: ObjectiveConfig) -> bool:
    """Whether any term of the loss needs the teacher."""
    return any(not name.startswith("cross_entropy") for name in term_weights(config))
