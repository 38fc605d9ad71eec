"""List the pretrained models, which predict, serve, export, evaluate and train take by name: kdltr models"""

from __future__ import annotations

import sys
import textwrap

import tyro

from kdltr_core.inference.pretrained import pretrained_models
from pipelines.run.command_line import answer_mistakes


def list_models() -> int:
    """List the pretrained models, which predict, serve, export, evaluate and train take by name."""
    for name, model in pretrained_models().items():
        reads = "16×64, student" if model.role == "student" else "32×128, teacher"
        megabytes = model.path.stat().st_size / 1e6
        print(
            f"{name}: {model.recognizer}, reads {reads}, {model.parameters / 1e6:.1f} M parameters, {megabytes:.0f} MB"
        )
        figures = ", ".join(f"{accuracy:.2f} % of {of}" for of, accuracy in model.word_accuracy.items())
        enlarged = " (low_res, enlarged)" if model.role == "teacher" else " (low_res)"
        for title, text in (
            ("reads", f"{figures}{enlarged}"),
            ("trained on", model.trained_on),
            ("licence", model.licence),
            ("reproduce", model.reproduce),
        ):
            print(textwrap.fill(f"{title}: {text}", 110, initial_indent="  ", subsequent_indent="    "))
    return 0


def main() -> int:
    return tyro.cli(list_models)


if __name__ == "__main__":
    sys.exit(answer_mistakes(main))
