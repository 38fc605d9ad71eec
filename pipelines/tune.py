"""Search a run's best settings: python pipelines/tune.py [RECIPE|config.yaml] --space SPACE [--option value …]"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from pipelines.run.command_line import answer_mistakes
from pipelines.sweep.options import parse_sweep

if TYPE_CHECKING:
    from kdltr_core.config import RunConfig
    from pipelines.sweep.comparison import CandidateComparison
    from pipelines.sweep.folder import SweepFolder
    from pipelines.sweep.page import Page
    from pipelines.sweep.tracking import SweepTracker

ABOUT = "Try points of a search space, each as a training run that the validation split judges, and confirm the best."


def main() -> int:
    options, config = parse_sweep(sys.argv[1:], "tune.py", ABOUT)

    # Not at the top: ray, torch and mlflow take seconds, which --help and a mistyped option need not wait for.
    from tune_spaces.space import load_space

    space = load_space(options.space)
    from pipelines.run.checks import check_files
    from pipelines.run.progress import say
    from pipelines.sweep.folder import SweepFolder
    from pipelines.sweep.tracking import SweepTracker

    folder = SweepFolder(config, options, space)
    tracker = SweepTracker(folder.path, config, folder.studies)
    if folder.is_finished and not tracker.parent.owes:
        say(f"The sweep {config.name} is finished: {folder.table}. A larger --num-trials or --confirm resumes it.")
        return 0
    check_files(config)
    with folder.claim():
        say(f"{'Resuming' if folder.has_begun else 'Beginning'} the sweep in {folder.path}")
        sweep(config, folder, tracker)
    return 0


def sweep(config: RunConfig, folder: SweepFolder, tracker: SweepTracker) -> None:
    """Trials, then their confirmation, followed from here; a report is written however it ends.

    Raises: ValueError for words, a space or trials that cannot be trained with; RunStopped; KeyboardInterrupt.
    """
    from pipelines.sweep.phases import confirm, prepare, recorded, try_points
    from pipelines.sweep.report import write_sweep_report

    resources, words = prepare(config, folder)
    confirmed: CandidateComparison | None = None

    def report() -> Page:
        return write_sweep_report(folder, config, len(words.validation), confirmed)

    with recorded(folder, words, tracker, report):
        try_points(config, folder, resources, words)
        if folder.options.confirm:
            confirmed = confirm(config, folder, resources, words)
    print(f"The point to use, ready to be trained: python pipelines/train.py {folder.best}")


if __name__ == "__main__":
    sys.exit(answer_mistakes(main))
