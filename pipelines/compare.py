"""Compare objectives: python pipelines/compare.py [RECIPE|config.yaml] --objectives A B … --seeds 0 1 … [--option …]"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from pipelines.run.command_line import RunStopped, answer_mistakes
from pipelines.sweep.objectives import candidate_fields
from pipelines.sweep.options import parse_comparison

if TYPE_CHECKING:
    from kdltr_core.config import RunConfig
    from pipelines.sweep.folder import CompareFolder
    from pipelines.sweep.tracking import SweepTracker

ABOUT = "Train a student with each of several objectives, alike in all else, and compare what they read."


def main() -> int:
    options, config = parse_comparison(sys.argv[1:], "compare.py", ABOUT)
    fields = {text: candidate_fields(text, config) for text in options.objectives}

    # Not at the top: ray, torch and mlflow take seconds, which --help and a mistyped option need not wait for.
    from pipelines.run.checks import check_files
    from pipelines.run.progress import say
    from pipelines.sweep.folder import CompareFolder
    from pipelines.sweep.tracking import SweepTracker

    folder = CompareFolder(config, options, fields)
    tracker = SweepTracker(folder.path, config, folder.studies)
    if folder.is_finished and not tracker.parent.owes:
        say(f"The comparison {config.name} is finished: {folder.table}. More --objectives or --seeds resume it.")
        return 0
    for changes in fields.values():
        check_files(config.override(changes))
    with folder.claim():
        say(f"{'Resuming' if folder.has_begun else 'Beginning'} the comparison in {folder.path}")
        compare_objectives(config, folder, tracker)
    return 0


def compare_objectives(config: RunConfig, folder: CompareFolder, tracker: SweepTracker) -> None:
    """Trains what is not trained yet, followed from here; a table is written however it ends.

    Raises: ValueError for words or runs that cannot be trained with; RunStopped; KeyboardInterrupt.
    """
    from pipelines.sweep.phases import prepare, recorded, train_candidates

    resources, words = prepare(config, folder)
    with recorded(folder, words, tracker, folder.write_report):
        train_candidates("run", folder.runs, config, folder, resources, words)
    if folder.num_missing:
        raise RunStopped(
            f"{folder.num_missing} of {len(folder.runs.points)} runs failed; the same command tries them again"
        )


if __name__ == "__main__":
    sys.exit(answer_mistakes(main))
