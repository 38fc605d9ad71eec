"""Student and projector, which are trained, and the teacher beside them, which is not."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import orthogonal

from kdltr_core.config import ObjectiveConfig
from kdltr_core.data.images import as_float
from kdltr_core.losses.objective import SEMANTIC_TERMS, VISUAL_TERMS, LossTerms, compute_terms, term_weights
from kdltr_core.losses.semantic_contrast import Projector
from kdltr_core.recognizers import Recognizer, RecognizerOutput


class Rotation(nn.Module):
    """A trained map of features (N, C, L) whose matrix stays orthogonal, at first the identity (Miles et al. 2024)."""

    def __init__(self, num_channels: int, num_wanted: int) -> None:
        super().__init__()
        self.linear = orthogonal(nn.Linear(num_channels, num_wanted, bias=False))
        self.linear.weight = torch.eye(num_wanted, num_channels)

    def forward(self, features: Tensor) -> Tensor:
        """(N, C, L) → (N, wanted, L), in float32: a matrix rounded to bfloat16 is orthogonal no more."""
        with torch.autocast(features.device.type, enabled=False):
            return self.linear(features.float().transpose(1, 2)).transpose(1, 2)


class Distiller(nn.Module):
    """What data-parallel training wraps: every trainable weight of a run, and the loss.

    Args:
        student: reads low_res.
        config: the terms and their weights.
        teacher: whose widths the student's features are compared in; it does not become part of this module.
            None: the student's own widths.

    Attributes:
        projector: of semantic contrast; None without that term.
        visual_projection, semantic_projection: linear maps to the teacher's widths, where those differ, or the
            rotation that the config asks for; else None.
    """

    def __init__(self, student: Recognizer, config: ObjectiveConfig, teacher: Recognizer | None = None) -> None:
        super().__init__()
        self.student = student
        self.config = config
        model = teacher or student
        terms = term_weights(config).keys()
        contrasts = "semantic_contrast" in terms
        self.projector = Projector(model.semantic_width, config.projector_width) if contrasts else None
        self.visual_projection: nn.Module | None = None
        if terms & VISUAL_TERMS:
            channels, wanted = student.visual_shape[0], model.visual_shape[0]
            if config.visual_projection == "orthogonal":
                self.visual_projection = Rotation(channels, wanted)
            elif channels != wanted:
                self.visual_projection = nn.Conv1d(channels, wanted, 1)
        width, wanted = student.semantic_width, model.semantic_width
        compares = terms & SEMANTIC_TERMS and width != wanted
        self.semantic_projection = nn.Linear(width, wanted) if compares else None

    def forward(
        self,
        images: Tensor,
        targets: Tensor,
        lengths: Tensor,
        permutations: Tensor,
        teacher: RecognizerOutput | None,
        num_valid_steps: Tensor | None = None,
        rows: Tensor | None = None,
    ) -> LossTerms:
        """The terms of the loss for one batch.

        Args:
            images: (N, 3, h, w) uint8, what the student reads.
            targets, lengths: as in ``Batch``.
            permutations: (P, T + 1).
            teacher: the teacher's forward pass on the same words and permutations; None where it is not needed.
            num_valid_steps: scalar; see ``losses.recognition``.
            rows: see ``losses.semantic_contrast``.
        """
        output = self.student.forward_training(as_float(images), targets, permutations)
        if self.visual_projection is not None:
            output = replace(output, visual=self.visual_projection(output.visual))
        if self.semantic_projection is not None and output.semantic is not None:
            output = replace(output, semantic=self.semantic_projection(output.semantic))
        return compute_terms(self.config, output, teacher, self.projector, targets, lengths, num_valid_steps, rows)


@torch.no_grad()
def teach(teacher: Recognizer, high_res: Tensor, targets: Tensor, permutations: Tensor) -> RecognizerOutput:
    """The teacher's forward pass on high_res (N, 3, 32, 128) uint8, which no gradient enters."""
    return teacher.decode_lesson(teacher.encode_lesson(as_float(high_res)), targets, permutations)


def check_pair(student: Recognizer, teacher: Recognizer, config: ObjectiveConfig) -> None:
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
    widths = [(r.visual_shape[0], r.semantic_width) for r in (student, teacher)]
    if widths[0] != widths[1] and config.width_projection == "none":
        raise ValueError(
            f"student and teacher differ in the widths of their features, {widths[0]} and {widths[1]}, and "
            "objective.width_projection is none; give linear, or a teacher of the student's widths"
        )


def needs_teacher(config: ObjectiveConfig) -> bool:
    """Whether any term of the loss looks at the teacher."""
    return any(not name.startswith("cross_entropy") for name in term_weights(config))
