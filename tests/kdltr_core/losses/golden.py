"""Golden inputs and outputs of the published losses, as tensors."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from torch import Tensor

from kdltr_core.charset import Charset36, Charset94
from kdltr_core.data.batch import encode_targets
from kdltr_core.losses import Projector
from kdltr_core.recognizers.recognizer import RecognizerOutput
from tests.golden_weights import GOLDEN, SEED, golden_arrays, golden_tensor

FOLDER = GOLDEN / "losses"


@dataclass(frozen=True)
class GoldenLoss:
    """Inputs in the shapes of our contract, leaves of the student requiring gradients, and all the file's arrays."""

    student: RecognizerOutput
    teacher: RecognizerOutput
    projector: Projector
    targets: Tensor
    lengths: Tensor
    arrays: dict[str, Tensor]


def golden_loss(family: str) -> GoldenLoss:
    values = golden_arrays(f"losses/{family}")
    with np.load(FOLDER / f"{family}.npz") as file:
        words = [str(word) for word in file["words"]]
    charset, seed = {"abinet": (Charset36, SEED + 1), "parseq": (Charset94, SEED + 2)}[family]

    def side(role: str) -> RecognizerOutput:
        visual, semantic, logits = (values[f"{role}_{part}"].clone() for part in ("visual", "semantic", "logits"))
        attention = values.get(f"{role}_attention")
        if family == "abinet":
            visual, semantic, logits = visual.flatten(2), semantic[None], logits[None]
        else:
            visual = visual.mT.contiguous()
        return RecognizerOutput(logits, visual, semantic, None if attention is None else attention.flatten(2))

    student, teacher = side("student"), side("teacher")
    assert student.semantic is not None
    for leaf in (student.logits, student.visual, student.semantic):
        leaf.requires_grad_()
    projector = Projector(student.semantic.shape[-1])
    shapes = {name: tuple(parameter.shape) for name, parameter in projector.state_dict().items()}
    weights = {name: golden_tensor(f"sematic_loss.proj.{name}", shape, seed) for name, shape in shapes.items()}
    projector.load_state_dict(weights)
    targets, lengths = encode_targets(words, charset, student.logits.shape[2])
    return GoldenLoss(student, teacher, projector, targets, lengths, values)
