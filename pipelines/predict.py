"""Words in images, and how sure the student is: python pipelines/predict.py STUDENT image… | folder | --lmdb DIR | -"""

from __future__ import annotations

import os
import sys
import warnings
from collections import defaultdict
from typing import TYPE_CHECKING

import tyro

from pipelines.prediction.options import PredictOptions
from pipelines.run.command_line import DID_NOT_FINISH, INTERRUPTED, answer_mistakes

if TYPE_CHECKING:
    from kdltr_core.inference.reader import BaseReader
    from pipelines.prediction.sources import Skipped, Sources


def main() -> int:
    options = tyro.cli(PredictOptions, description=PredictOptions.__doc__)
    options.check(sys.stdout.isatty())
    # What is wrong with an image is said once, at the end, and not by Pillow meanwhile.
    warnings.filterwarnings("ignore", module=r"PIL\.")
    try:
        return predict(options)
    except BrokenPipeError:  # whoever reads what is printed has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return DID_NOT_FINISH
    except KeyboardInterrupt:
        if options.ray:
            raise
        print(f"interrupted{f'; {options.output} was not written' if options.output else ''}", file=sys.stderr)
        return INTERRUPTED


def predict(options: PredictOptions) -> int:
    """The exit code. Raises: ValueError; BrokenPipeError, if standard output is closed."""
    # Not at the top: torch takes seconds, which --help and a mistyped option need not wait for.
    from kdltr_core.config import LOW_RES_SIZE
    from pipelines.prediction.open_reader import open_reader_for
    from pipelines.prediction.sources import find_sources
    from pipelines.run.progress import say

    # With --ray too: what is wrong with it is said here, and not by a worker.
    reader = open_reader_for(options, options.device)
    reads_low_res = reader.image_size == LOW_RES_SIZE
    sources = find_sources(options.images, options.lmdb, reads_low_res, sys.stdin.buffer)
    if sources.num_left_alone:
        say(f"files without an image's name, not read: {sources.num_left_alone}")
    if options.ray:
        from pipelines.prediction.cluster import read_on_cluster as read
    else:
        read = read_here
    skipped = [*sources.skipped, *read(options, reader, sources)]
    for image in skipped:
        say(f"skipped {image.image}: {image.reason}")
    if skipped:
        say(f"skipped: {len(skipped)} of {len(sources.images) + len(sources.skipped)}")
    return DID_NOT_FINISH if skipped else 0


def read_here(options: PredictOptions, reader: BaseReader, sources: Sources) -> list[Skipped]:
    """What had to be skipped; the words go to the output."""
    from pipelines.prediction.doubt import Doubt, doubts_sentence
    from pipelines.prediction.output import open_output
    from pipelines.prediction.predictions import cropper_for, predict_images
    from pipelines.run.progress import progress_bar, say

    skipped: list[Skipped] = []
    num_done, num_words, progress = 0, 0, progress_bar("reading images")
    doubted: dict[Doubt, list[str]] = defaultdict(list)
    crop = cropper_for(reader, options.detect, options.num_threads)
    with open_output(options.resolved(sys.stdout.isatty()), options.output, options.detect) as write:
        for chunk in predict_images(reader, crop, sources.images, options.num_threads):
            write(chunk.words)
            num_words += len(chunk.words)
            for word in chunk.words:
                if word.doubt:
                    doubted[word.doubt].append(word.image)
            skipped += chunk.skipped
            num_done += chunk.num_images
            progress(num_done, len(sources.images))
    if options.output:
        say(f"{num_words} words of {num_done - len(skipped)} images: {options.output}")
    if sentence := doubts_sentence(doubted, num_words, options.detect):
        say(sentence)
    return skipped


if __name__ == "__main__":
    sys.exit(answer_mistakes(main))
