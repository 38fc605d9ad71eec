"""Search a run's best settings: python pipelines/tune.py [RECIPE|config.yaml] --space SPACE [--option value …]"""

from __future__ import annotations

import signal
import sys
from dataclasses import replace
from typing import TYPE_CHECKING

from pipelines.run.command_line import RunStopped, answer_mistakes
from pipelines.sweep.options import parse_sweep

if TYPE_CHECKING:
    from kdltr_core.config import RunConfig
    from kdltr_core.evaluation.significance import SignificanceTest
    from pipelines.run.tracking import Description, Status
    from pipelines.sweep.folder import SweepFolder
    from pipelines.sweep.options import SweepOptions
    from pipelines.sweep.tracking import SweepTracker
    from tune_spaces.space import Space

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
    tracker = SweepTracker(folder.path, config, say)
    if folder.is_finished and not tracker.parent.owes:
        say(f"The sweep {config.name} is finished; a larger --num-trials or --confirm goes on with it.")
        print(folder.table.read_text(encoding="utf-8"))
        return 0
    check_files(config)
    with folder.claim():
        say(f"{'Going on with' if folder.has_begun else 'Beginning'} the sweep in {folder.path}")
        sweep(options, config, space, folder, tracker)
    return 0


def sweep(options: SweepOptions, config: RunConfig, space: Space, folder: SweepFolder, tracker: SweepTracker) -> None:
    """Trials, then their confirmation, followed from here; a report is written however it ends.

    Raises: ValueError for words, a space or trials that cannot be trained with; RunStopped; KeyboardInterrupt.
    """
    from kdltr_core.data.dataset import load_datasets
    from kdltr_core.recognizers.registry import charset_of
    from pipelines.ray_train.cluster import connect
    from pipelines.run.checks import check_words, describe, summary
    from pipelines.run.progress import progress_bar, say
    from pipelines.sweep.end import write_report
    from pipelines.sweep.phases import confirm, given_points, try_points
    from pipelines.sweep.resources import machines_for, room_for
    from pipelines.sweep.teacher_cache import share_teacher_cache

    points = given_points(config, space, options)
    cluster = connect()
    at_once = machines_for(options, config, cluster.offers_gpus)
    room = room_for(options, cluster.prepare(at_once, folder.path, progress_bar("waiting for machines")))
    words = load_datasets(config.data, charset_of(config), progress=progress_bar("preparing words"))
    room = replace(room, settings={**room.settings, "datasets": words.description})
    check_words(config, words)
    for sentence in summary(words):
        say(sentence)
    config = share_teacher_cache(config, space, words, room, folder)
    tracker.begin(described(options, describe(config, words)))
    tracker.follow("trial", folder.trials)
    tracker.follow("confirmation", folder.confirmation)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    status: Status = "KILLED"
    verdict: SignificanceTest | None = None
    try:
        with tracker:
            try_points(config, space, points, folder, room, words)
            if options.confirm:
                verdict = confirm(config, folder, room)
        status = "FINISHED"
    except RunStopped:
        status = "FAILED"
        raise
    finally:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        write_report(folder, config, len(words.validation), verdict)
        if status == "FINISHED":
            folder.mark_finished()
        tracker.end(status, folder.artifacts, {"sweep.verdict": verdict.sentence} if verdict else {})
        signal.signal(signal.SIGINT, signal.default_int_handler)
        print(f"\n{folder.table.read_text(encoding='utf-8')}\nPictures and page: {folder.report}")
        if folder.best.exists():
            print(f"The point to use, ready to be trained: python pipelines/train.py {folder.best}")
        if tracker.parent.where:
            print(f"Trials with their curves: {tracker.parent.where}")


def described(options: SweepOptions, description: Description) -> Description:
    """The sweep's own run: what all trials share, and how it was searched."""
    asked = {f"sweep.{name}": value for name, value in options.model_dump().items()}
    tags = {"mlflow.source.name": "pipelines/tune.py", "sweep.role": "sweep", "sweep.space": options.space}
    return replace(
        description,
        parameters={**description.parameters, **{name: "" if v is None else v for name, v in asked.items()}},
        tags={**description.tags, **tags},
    )


if __name__ == "__main__":
    sys.exit(answer_mistakes(main))
