"""Compare objectives: python pipelines/compare.py [RECIPE|config.yaml] --objectives A B … --seeds 0 1 … [--option …]"""

from __future__ import annotations

import signal
import sys
from dataclasses import replace
from typing import TYPE_CHECKING

from pipelines.run.command_line import RunStopped, answer_mistakes
from pipelines.sweep.comparison_options import parse_comparison
from pipelines.sweep.objectives import runs

if TYPE_CHECKING:
    from kdltr_core.config import RunConfig
    from pipelines.run.tracking import Description, Status
    from pipelines.sweep.comparison_folder import CompareFolder
    from pipelines.sweep.tracking import SweepTracker

ABOUT = "Train a student with each of several objectives, alike in all else, and compare what they read."


def main() -> int:
    options, config = parse_comparison(sys.argv[1:], "compare.py", ABOUT)
    asked = runs(options.objectives, options.seeds, config)

    # Not at the top: ray, torch and mlflow take seconds, which --help and a mistyped option need not wait for.
    from pipelines.run.checks import check_files
    from pipelines.run.progress import say
    from pipelines.sweep.comparison_folder import CompareFolder
    from pipelines.sweep.tracking import SweepTracker

    folder = CompareFolder(config, options, asked)
    tracker = SweepTracker(folder.path, config, say)
    if folder.is_finished and not tracker.parent.owes:
        say(f"The comparison {config.name} is finished; more --objectives or --seeds go on with it.")
        print(folder.table.read_text(encoding="utf-8"))
        return 0
    for run in asked[: len(options.objectives)]:
        check_files(config.override(run.fields))
    with folder.claim():
        say(f"{'Going on with' if folder.has_begun else 'Beginning'} the comparison in {folder.path}")
        compare(config, folder, tracker)
    return 0


def compare(config: RunConfig, folder: CompareFolder, tracker: SweepTracker) -> None:
    """Trains what is not trained yet, followed from here; a table is written however it ends.

    Raises: ValueError for words or runs that cannot be trained with; RunStopped; KeyboardInterrupt.
    """
    from kdltr_core.data.dataset import load_datasets
    from kdltr_core.recognizers.registry import charset_of
    from pipelines.ray_train.cluster import connect
    from pipelines.run.checks import check_words, describe, summary
    from pipelines.run.progress import progress_bar, say
    from pipelines.sweep.resources import room_for
    from pipelines.sweep.runs import train_all, write_report

    options = folder.options
    at_once = config.override({"workers": max(1, options.workers_per_trial), "min_workers": 0})
    room = room_for(options.room, connect().prepare(at_once, folder.path, progress_bar("waiting for machines")))
    words = load_datasets(config.data, charset_of(config), progress=progress_bar("preparing words"))
    room = replace(room, settings={**room.settings, "datasets": words.description})
    check_words(config, words)
    for sentence in summary(words):
        say(sentence)
    tracker.begin(described(folder, describe(config, words)))
    tracker.follow("run", folder.runs)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    status: Status = "KILLED"
    try:
        with tracker:
            train_all(config, folder, room)
        status = "FINISHED" if not folder.num_missing else "FAILED"
    except RunStopped:
        status = "FAILED"
        raise
    finally:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        write_report(folder)
        if status == "FINISHED":
            folder.mark_finished()
        tracker.end(status, folder.artifacts)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        print(f"\n{folder.table.read_text(encoding='utf-8')}\nRuns and table: {folder.path}")
        if tracker.parent.where:
            print(f"Runs with their curves: {tracker.parent.where}")
    if folder.num_missing:
        raise RunStopped(f"{folder.num_missing} of {len(folder.asked)} runs failed; the same command tries them again")


def described(folder: CompareFolder, description: Description) -> Description:
    """The comparison's own run: what all its runs share, and who was compared."""
    asked = {f"comparison.{name}": str(value) for name, value in folder.options.model_dump().items()}
    tags = {"mlflow.source.name": "pipelines/compare.py", "sweep.role": "comparison"}
    return replace(description, parameters={**description.parameters, **asked}, tags={**description.tags, **tags})


if __name__ == "__main__":
    sys.exit(answer_mistakes(main))
