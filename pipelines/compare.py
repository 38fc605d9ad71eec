"""Compare objectives: python pipelines/compare.py [RECIPE|config.yaml] --objectives A B … --seeds 0 1 … [--option …]"""

from __future__ import annotations

import sys

from pipelines.run.command_line import answer_mistakes, parse_run_with
from pipelines.sweep.options import CompareOptions

ABOUT = "Train a student with each of several objectives, alike in all else, and compare what they read."


def main() -> int:
    options, config = parse_run_with(CompareOptions, sys.argv[1:], "compare.py", ABOUT, lambda options: "-compared")
    trained = [config.override(fields) for fields in options.fields.values()]

    # Not at the top: ray, torch and mlflow take seconds, which --help and a mistyped option need not wait for.
    from pipelines.sweep.folder import CompareFolder
    from pipelines.sweep.phases import run_study

    folder = CompareFolder(config, options)
    return run_study(folder, trained, lambda run: run.train_candidates("run", folder.runs))


if __name__ == "__main__":
    sys.exit(answer_mistakes(main))
