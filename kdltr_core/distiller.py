"""Student and projector, which are trained, and the teacher beside them, which is not."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdltr_core.config import ObjectiveConfig
from kdltr_core.losses.objective import LossTerms, compute_terms
from kdltr_core.losses.semantic_contrast import Projector
from kdltr_core.recognizers import Recognizer, RecognizerOutput


def as_float(pixels: Tensor) -> Tensor:
    """uint8 pixels to float in [0, 1]."""
    return pixels.float() / 255


def enlarge(images: Tensor) -> Tensor:
    """Low-res images (N, 3, 16, 64) as a teacher is shown them: (N, 3, 32, 128), bicubic with aligned corners."""
    return F.interpolate(images, scale_factor=2, mode="bicubic", align_corners=True)


class Distiller(nn.Module):
    """What data-parallel training wraps: every trainable weight of a run, and the loss.

    Args:
        student: reads low_res.
        config: the terms and their weights.
    """

    def __init__(self, student: Recognizer, config: ObjectiveConfig) -> None:
        super().__init__()
        self.student = student
        self.config = config
        contrasts = config.name == "distillation" and config.semantic_contrast > 0
        self.projector = Projector(student.size.dim, config.projector_width) if contrasts else None

    def forward(
        self,
        images: Tensor,
        targets: Tensor,
        lengths: Tensor,
        permutations: Tensor,
        teacher: RecognizerOutput | None,
        num_valid_steps: Tensor | None = None,
    ) -> LossTerms:
        """The terms of the loss for one batch.

        Args:
            images: (N, 3, h, w) uint8, what the student reads.
            targets, lengths: as in ``Batch``.
            permutations: (P, T + 1).
            teacher: the teacher's forward pass on the same words and permutations; None where it is not needed.
            num_valid_steps: scalar; see ``losses.recognition``.
        """
        output = self.student.forward_training(as_float(images), targets, permutations)
        return compute_terms(self.config, output, teacher, self.projector, targets, lengths, num_valid_steps)


@torch.no_grad()
def teach(teacher: Recognizer, high_res: Tensor, targets: Tensor, permutations: Tensor) -> RecognizerOutput:
    """The teacher's forward pass on high_res (N, 3, 32, 128) uint8, which no gradient enters."""
    return teacher.forward_training(as_float(high_res), targets, permutations)


def needs_teacher(config: ObjectiveConfig) -> bool:
    """Whether any term of the loss looks at the teacher."""
    return config.name == "distillation" and (config.visual_focus + config.semantic_contrast + config.soft_logits) > 0


def autocast(device: torch.device, precision: str) -> AbstractContextManager[None]:
    """Mixed precision for a forward pass.

    Args:
        precision: "float32", "bfloat16", or "auto": bfloat16 on a GPU, and on a CPU that multiplies it natively.
    """
    if precision == "bfloat16" or (precision == "auto" and (device.type == "cuda" or _cpu_multiplies_bfloat16())):
        return torch.autocast(device.type, torch.bfloat16)
    return nullcontext()


def _cpu_multiplies_bfloat16() -> bool:
    # Where the processor only emulates it, bfloat16 is many times slower than float32.
    checks = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    return any(getattr(torch.cpu, check, bool)() for check in checks)
