"""What a sweep or comparison does: its machines and words, its trials, their confirmation, and the end of it all."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

from kdltr_core.config import RunConfig
from kdltr_core.data.dataset import Datasets
from kdltr_core.train.engine import total_steps
from pipelines.ray_train.cluster import connect
from pipelines.run.checks import prepare_words
from pipelines.run.command_line import RunStopped
from pipelines.run.description import describe, noted
from pipelines.run.progress import say
from pipelines.run.tracking import Status
from pipelines.sweep.comparison import CandidateComparison, CandidateRuns
from pipelines.sweep.folder import StudyFolder, SweepFolder
from pipelines.sweep.page import Page
from pipelines.sweep.resources import TrialResources, machines_for, resources_for
from pipelines.sweep.search import GRACE
from pipelines.sweep.study import PARTS, SweepStudy
from pipelines.sweep.tracking import SweepTracker
from pipelines.sweep.tuner import StudySearch, run_trials


def prepare(config: RunConfig, folder: StudyFolder) -> tuple[TrialResources, Datasets]:
    """The machines, waited for, and the words, prepared here.

    Raises: ValueError if no trial fits, or for words that cannot be trained with.
    """
    cluster, options = connect(), folder.options
    cluster = cluster.prepare(*machines_for(options, cluster.offers_gpus), folder.path)
    return resources_for(options, cluster), prepare_words(config, folder)


@contextmanager
def recorded(folder: StudyFolder, words: Datasets, tracker: SweepTracker, report: Callable[[], Page]) -> Iterator[None]:
    """MLflow follows what is done inside; a report is written, and its page printed, however it ends."""
    description = describe(folder.config, words, folder.verb)
    asked = {f"sweep.{name}": "" if value is None else value for name, value in folder.options.model_dump().items()}
    tags = {"sweep.role": folder.noun}
    parameters = {**description.parameters, **asked}
    tracker.begin(replace(description, parameters=parameters, tags={**description.tags, **tags}))
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    status: Status = "KILLED"
    try:
        with tracker.following():
            yield
        status = "FAILED" if folder.num_missing else "FINISHED"
    except RunStopped:
        status = "FAILED"
        raise
    finally:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        page = report()
        if status == "FINISHED":
            folder.mark_finished()
        answer = {"sweep.answer": page.sentences[0]} if page.sentences else {}
        tracker.end(status, folder.artifacts, {**answer, **noted(page.body, folder.verb)})
        signal.signal(signal.SIGINT, signal.default_int_handler)
        print(f"\n{page.text}\nAll of it: {folder.table}")
        if tracker.parent.where:
            print(f"Trials with their curves: {tracker.parent.where}")


def try_points(config: RunConfig, folder: SweepFolder, resources: TrialResources, words: Datasets) -> None:
    """Trials until as many as were asked for have ended.

    Raises: RunStopped; KeyboardInterrupt.
    """
    options, study = folder.options, folder.trials
    if not all(folder.space.holds(point) for point in folder.points):
        say("the first point lies outside the search space: it is trained, but the search cannot use its result")
    study.enqueue(folder.points)
    study.retry_failed()
    config = config.override({"num_steps": options.trial_steps or config.num_steps})
    num_steps = total_steps(config, len(words.train))
    if options.scheduler == "asha" and PARTS * config.validate_every > GRACE * num_steps:
        say(
            f"trials of {num_steps} steps read the validation split every {config.validate_every}: too seldom for ASHA "
            "to stop one at a quarter or half of its length; give a smaller --validate-every"
        )
    _run("trial", study, options.num_trials, config, folder, resources, words)


def train_candidates(
    label: str,
    runs: CandidateRuns,
    config: RunConfig,
    folder: StudyFolder,
    resources: TrialResources,
    words: Datasets,
) -> None:
    """Trains every candidate with every seed to its end and reads the benchmarks, what was left open before too.

    Args:
        label: what one of them is called.

    Raises: RunStopped; KeyboardInterrupt.
    """
    runs.study.enqueue(runs.points)
    runs.study.retry_failed()
    wanted = sum(trial.params not in runs.points for trial in runs.study.trials) + len(runs.points)
    _run(label, runs.study, wanted, config, folder, resources, words)


def confirm(
    config: RunConfig, folder: SweepFolder, resources: TrialResources, words: Datasets
) -> CandidateComparison | None:
    """Trains the baseline and the best points anew, and compares what they read.

    Returns: nothing, with a sentence, where there is nothing to compare.
    Raises: RunStopped; KeyboardInterrupt.
    """
    runs = folder.confirmation
    if len(runs.fields) < 2:
        say("nothing to confirm: only the baseline's trial finished")
        return None
    train_candidates("confirmation", runs, config, folder, resources, words)
    found = runs.compare()
    if found.significance is None:
        say("no test: it needs the baseline and at least one other point, each with all seeds")
    return found


def _run(
    label: str,
    study: SweepStudy,
    num_trials: int,
    config: RunConfig,
    folder: StudyFolder,
    resources: TrialResources,
    words: Datasets,
) -> None:
    threads, has_benchmarks = folder.options.cpus_per_trial, label != "trial"
    settings = {"threads": threads, "datasets": words.description, "benchmarks": has_benchmarks}
    run_trials(StudySearch(study, config, settings, label, num_trials), resources, folder.path)
