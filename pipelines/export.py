"""A finished student for use elsewhere:  python pipelines/export.py STUDENT [--format onnx|mlflow]"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

import tyro

from pipelines.exporting.options import ExportOptions
from pipelines.run.command_line import answer_mistakes


def main() -> int:
    options = tyro.cli(ExportOptions, description=ExportOptions.__doc__)
    options.check()

    # Not at the top: torch takes seconds, which --help and a mistyped option need not wait for.
    from kdltr_core.data.roots import open_benchmarks
    from kdltr_core.inference.weights_files import fetch_recognizer, find_recognizer, load_recognizer
    from pipelines.exporting.steps import quantise, write_checked
    from pipelines.run.progress import progress_bar, say

    student = find_recognizer(fetch_recognizer(options.student, options.data.cache_folder))
    recognizer = load_recognizer(student)
    place = options.place(student)
    packs = open_benchmarks(options.benchmarks(), progress=progress_bar("preparing words"))
    with tempfile.TemporaryDirectory(prefix=".export-", dir=place.parent) as scratch:
        file = Path(scratch) / place.name
        found = write_checked(file, student, recognizer, packs)
        if options.quantise == "int8":
            found |= quantise(file, options, packs)
        if options.format == "mlflow":
            from pipelines.exporting.registered_model import register

            say("registering the model")
            print(register(file, student, options.tracking_uri, options.name, found))
        else:
            os.replace(file, place)
            print(place)
    return 0


if __name__ == "__main__":
    sys.exit(answer_mistakes(main))
