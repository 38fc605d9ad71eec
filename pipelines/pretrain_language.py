"""Teach the language part of ABINet and MATRN its words.  python pipelines/pretrain_language.py [--words FILE] …"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import tyro

from pipelines.run.command_line import answer_mistakes


@dataclass(frozen=True)
class PretrainOptions:
    """Teach the language part of abinet and matrn to correct misread words; --recognizer.language-weights takes it."""

    words: Path | None = None
    """text file with one word a line; none: the list that comes with the package, which is a small one"""
    output_folder: Path = Path("runs/language")
    """language.safetensors and checkpoints; the same command again resumes from the newest of them"""
    num_steps: int = 10_000
    """training steps"""
    batch_size: int = 4096
    """words per step"""
    learning_rate: float = 1e-4
    """Adam's learning rate; decays ×0.1 for the last eighth of the steps"""
    held_out_fraction: float = 0.05
    """fraction of the words held out, to count how many misread words are corrected"""
    checkpoint_every: int = 500
    """steps between two checkpoints"""
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """autocast type; auto: bfloat16 on a GPU or a CPU that multiplies it natively, else float32"""
    seed: int = 0
    """seed of the order and of the misread words"""


def main() -> int:
    options = tyro.cli(PretrainOptions, description=PretrainOptions.__doc__)

    # Not at the top: torch takes seconds, which --help and a mistyped option need not wait for.
    from kdltr_core.charset import Charset36
    from kdltr_core.distributed import DistributedContext
    from kdltr_core.seeding import seed_everything
    from kdltr_core.train.language import (
        LANGUAGE_FILE,
        LanguageConfig,
        build_language_model,
        bundled_word_list,
        pretrain,
        read_word_list,
    )
    from pipelines.run.progress import progress_bar, say

    config = LanguageConfig(
        num_steps=options.num_steps,
        batch_size=options.batch_size,
        learning_rate=options.learning_rate,
        held_out_fraction=options.held_out_fraction,
        checkpoint_every=options.checkpoint_every,
        precision=options.precision,
        seed=options.seed,
    )
    words = read_word_list(options.words, Charset36) if options.words else bundled_word_list(Charset36)
    say(f"{len(words)} words of {options.words or 'the bundled list'}")
    seed_everything(config.seed, "start")
    correction = pretrain(
        build_language_model(),
        words,
        config,
        options.output_folder,
        device=DistributedContext.current().device,
        progress=progress_bar("pre-training"),
    )
    print(f"{options.output_folder / LANGUAGE_FILE}: {correction.describe()}")
    return 0


if __name__ == "__main__":
    sys.exit(answer_mistakes(main))
