"""TeacherCache of recognizers whose training forward follows from the images alone (ABINet, MATRN)."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from kdltr_core.recognizers.output import RecognizerOutput
from kdltr_core.recognizers.recognizer import Recognizer


class FinishedLesson(Recognizer):
    """A recognizer that needs neither targets nor permutations: its lesson is its whole output."""

    def encode_lesson(self, images: Tensor) -> dict[str, Tensor]:
        output = self(images)
        assert output.semantic is not None
        assert output.attention is not None
        return {
            "logits": output.logits,
            "visual": output.visual,
            "semantic": output.semantic,
            "attention": output.attention,
        }

    def decode_lesson(self, lesson: Mapping[str, Tensor], targets: Tensor, permutations: Tensor) -> RecognizerOutput:
        return RecognizerOutput(lesson["logits"][None], lesson["visual"], lesson["semantic"][None], lesson["attention"])
