"""Distil a reader of low-resolution words.  python pipelines/train.py [RECIPE|config.yaml] [--dotted.field value …]"""

from __future__ import annotations

import shlex
import signal
import sys
from contextlib import closing
from typing import TYPE_CHECKING, Any

from pipelines.run.command_line import RunStopped, answer_mistakes, parse_run

if TYPE_CHECKING:
    from kdltr_core.config import RunConfig
    from pipelines.run.folder import RunFolder
    from pipelines.run.tracking import Status, Tracker

ABOUT = "Distil a recognizer that reads 32x128 images into one that reads 16x64 images directly."


def main() -> int:
    config = parse_run(sys.argv[1:], "train.py", ABOUT)

    # Not at the top: torch, ray and mlflow take seconds, which --help and a mistyped option need not wait for.
    from pipelines.run.checks import check_files
    from pipelines.run.folder import TRACKING_FILE, RunFolder
    from pipelines.run.progress import say, shown_path
    from pipelines.run.tracking import Tracker

    folder = RunFolder(config)
    tracker = Tracker(folder.path, config.tracking_uri, config.experiment, say, folder.storage.place)
    if folder.is_finished:
        table = folder.named("evaluation/table.md")
        say(f"The run {config.name} is finished. Its table is in {table}; another --name begins another run.")
        if tracker.owes and folder.hand_over(tracker, "FINISHED"):
            folder.keep(TRACKING_FILE)
            say(f"MLflow now has all of it: {tracker.where}")
        return 0
    check_files(config)
    with folder.claim():
        say(f"{'Resuming' if folder.has_begun else 'Beginning'} the run in {folder.named()}")
        train(config, folder, tracker)
    print(f"\n{folder.verdict}")
    print(f"Words and how they are read: {shown_path(folder.named('evaluation/examples.png'))}")
    if tracker.where:
        print(f"Curves, table and pictures:  {tracker.where}")
    print(f"Next, read your own images:  kdltr predict {shlex.quote(shown_path(folder.named()))} my.png")
    return 0


def train(config: RunConfig, folder: RunFolder, tracker: Tracker) -> None:
    """Prepare the words here, train on Ray's workers, and follow them from here.

    Raises: ValueError for words or a number of workers that cannot be trained with; RunStopped; KeyboardInterrupt.
    """
    from kdltr_core.data.held_out_texts import selection_texts
    from kdltr_core.train.engine import total_steps
    from pipelines.ray_train.cluster import connect, train_on
    from pipelines.ray_train.worker import train_worker
    from pipelines.run.checks import prepare_words
    from pipelines.run.description import describe
    from pipelines.run.folder import TRACKING_FILE
    from pipelines.run.progress import Follower, polled, progress_bar, say

    cluster = connect().prepare(config.workers, config.min_workers or config.workers, folder.storage.place)
    selection_texts(config, progress_bar("preparing texts"))
    words = prepare_words(config, folder)
    num_steps = total_steps(config, len(words.train))
    what = f"a {config.recognizer.trained} ({config.recognizer.name}, {config.objective.name})"
    size = f"{num_steps} steps of {config.optim.batch_size} words"
    say(f"Training {what}: {size}, after Ray has started its workers")
    settings: dict[str, Any] = {
        "config": config.model_dump(mode="json"),
        "run_folder": folder.storage.place,
        "run_id": tracker.begin(describe(config, words, "train")),
        "datasets": words.description,
    }
    folder.keep(TRACKING_FILE)

    follower = Follower(folder.metrics_log, num_steps)

    def follow() -> None:
        folder.poll()
        follower.poll()
        tracker.send()

    signal.signal(signal.SIGTERM, signal.default_int_handler)
    status: Status = "KILLED"
    try:
        with closing(follower), polled(follow):
            train_on(cluster, train_worker, settings, config, folder)
        folder.mark_finished()
        status = "FINISHED"
    except RunStopped:
        status = "FAILED"
        raise
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)  # Ray put its own in this place
        folder.hand_over(tracker, status)
        folder.keep(TRACKING_FILE)


if __name__ == "__main__":
    sys.exit(answer_mistakes(main))
