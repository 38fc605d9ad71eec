"""What a sweep or comparison does: its machines and words, its trials, their confirmation, and the end of it all."""

from __future__ import annotations

import signal
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from kdltr_core.config import RunConfig
from kdltr_core.data.dataset import Datasets
from kdltr_core.train.engine import total_steps
from pipelines.ray_train.cluster import connect
from pipelines.run.checks import check_files, prepare_words
from pipelines.run.command_line import RunStopped
from pipelines.run.description import describe, noted
from pipelines.run.progress import say
from pipelines.run.tracking import Status
from pipelines.sweep.comparison import CandidateRuns
from pipelines.sweep.folder import StudyFolder, SweepFolder
from pipelines.sweep.search import GRACE
from pipelines.sweep.study import PARTS, SweepStudy
from pipelines.sweep.tracking import SweepTracker
from pipelines.sweep.tuner import StudySearch, machines_for, resources_for, run_trials


@dataclass(frozen=True)
class StudyRun:
    """A sweep or comparison under way: its folder, what ``resources_for`` gives its trials, and the words."""

    folder: StudyFolder
    resources: tuple[Mapping[str, float], int]
    words: Datasets

    def train(self, label: str, study: SweepStudy, num_trials: int, config: RunConfig) -> None:
        """Trials, each called ``label``, until so many have ended; all but the search's read the benchmarks.

        Raises: RunStopped; KeyboardInterrupt.
        """
        study.retry_failed()
        threads, datasets = self.folder.options.cpus_per_trial, self.words.description
        settings = {"threads": threads, "datasets": datasets, "benchmarks": label != "trial"}
        run_trials(StudySearch(study, config, settings, label, num_trials), *self.resources, self.folder.path)

    def train_candidates(self, label: str, runs: CandidateRuns) -> None:
        """Every candidate with every seed to its end, what was left open before too. Raises: as ``train``."""
        runs.study.enqueue(runs.points)
        wanted = sum(trial.params not in runs.points for trial in runs.study.trials) + len(runs.points)
        self.train(label, runs.study, wanted, self.folder.config)


def run_study(folder: StudyFolder, trained: Sequence[RunConfig], work: Callable[[StudyRun], None]) -> int:
    """Does ``work``, followed by MLflow; a report is written, and its page printed, however it ends.

    Args:
        trained: configs whose files have to be there.

    Returns: the exit code.
    Raises: ValueError for files, words or trials that cannot be trained with; RunStopped; KeyboardInterrupt.
    """
    config = folder.config
    tracker = SweepTracker(folder.path, config, folder.studies)
    if folder.is_finished and not tracker.parent.owes:
        say(f"The {folder.noun} {config.name} is finished: {folder.table}. More {folder.more} resume it.")
        return 0
    for each in trained:
        check_files(each)
    with folder.claim():
        say(f"{'Resuming' if folder.has_begun else 'Beginning'} the {folder.noun} in {folder.path}")
        cluster, options = connect(), folder.options
        cluster = cluster.prepare(*machines_for(options, cluster.offers_gpus), folder.path)
        resources = resources_for(options, cluster)
        words = prepare_words(config, folder)
        description = describe(config, words, folder.verb)
        asked = {f"sweep.{name}": "" if value is None else value for name, value in options.model_dump().items()}
        tags = {**description.tags, "sweep.role": folder.noun}
        tracker.begin(replace(description, parameters={**description.parameters, **asked}, tags=tags))
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        status: Status = "KILLED"
        try:
            with tracker.following():
                work(StudyRun(folder, resources, words))
            status = "FAILED" if folder.num_missing else "FINISHED"
        except RunStopped:
            status = "FAILED"
            raise
        finally:
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            page = folder.write_report(len(words.validation))
            if status == "FINISHED":
                folder.mark_finished()
            answer = {"sweep.answer": page.sentences[0]} if page.sentences else {}
            tracker.end(status, folder.artifacts, {**answer, **noted(page.body, folder.verb)})
            signal.signal(signal.SIGINT, signal.default_int_handler)
            print(f"\n{page.text}\nAll of it: {folder.table}")
            if tracker.parent.where:
                print(f"Trials with their curves: {tracker.parent.where}")
    if folder.num_missing:
        raise RunStopped(f"{folder.num_missing} runs failed; the same command tries them again")
    return 0


def search_points(folder: SweepFolder, run: StudyRun) -> None:
    """Trials until as many as were asked for have ended; then the baseline and the best points anew, if asked for.

    Raises: RunStopped; KeyboardInterrupt.
    """
    options, study = folder.options, folder.trials
    if not all(folder.space.holds(point) for point in folder.points):
        say("the first point lies outside the search space: it is trained, but the search cannot use its result")
    study.enqueue(folder.points)
    config = folder.config.override({"num_steps": options.trial_steps or folder.config.num_steps})
    num_steps = total_steps(config, len(run.words.train))
    if options.scheduler == "asha" and PARTS * config.validate_every > GRACE * num_steps:
        say(
            f"trials of {num_steps} steps read the validation split every {config.validate_every}: too seldom for ASHA "
            "to stop one at a quarter or half of its length; give a smaller --validate-every"
        )
    run.train("trial", study, options.num_trials, config)
    if options.confirm and len(folder.confirmation.fields) < 2:
        say("nothing to confirm: only the baseline's trial finished")
    elif options.confirm:
        run.train_candidates("confirmation", folder.confirmation)
