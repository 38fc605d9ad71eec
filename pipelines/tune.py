"""Search a run's best settings: python pipelines/tune.py [RECIPE|config.yaml] --space SPACE [--option value …]"""

from __future__ import annotations

import sys
from functools import partial

from pipelines.run.command_line import answer_mistakes
from pipelines.sweep.options import parse_sweep

ABOUT = "Try points of a search space, each as a training run that the validation split judges, and confirm the best."


def main() -> int:
    options, config = parse_sweep(sys.argv[1:], "tune.py", ABOUT)

    # Not at the top: ray, torch and mlflow take seconds, which --help and a mistyped option need not wait for.
    from tune_spaces.space import load_space

    space = load_space(options.space)
    from pipelines.sweep.folder import SweepFolder
    from pipelines.sweep.phases import run_study, search_points

    folder = SweepFolder(config, options, space)
    code = run_study(folder, [config], partial(search_points, folder))
    print(f"The point to use, ready to be trained: python pipelines/train.py {folder.best}")
    return code


if __name__ == "__main__":
    sys.exit(answer_mistakes(main))
