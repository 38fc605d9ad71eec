"""What a sweep or comparison does: its machines and words, its trials, their confirmation, and the end of it all."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from kdltr_core.config import RunConfig
from kdltr_core.data.dataset import Datasets, load_datasets
from kdltr_core.evaluation.significance import SignificanceTest, compare_paired, read_correct
from kdltr_core.recognizers.registry import charset_of
from kdltr_core.train.engine import total_steps
from pipelines.ray_train.cluster import connect
from pipelines.run.checks import check_words, describe, summary
from pipelines.run.command_line import RunStopped
from pipelines.run.metrics_log import MetricsLog
from pipelines.run.progress import progress_bar, say
from pipelines.run.tracking import Status
from pipelines.sweep.folder import CompareFolder, StudyFolder, SweepFolder
from pipelines.sweep.options import TrialOptions
from pipelines.sweep.report import best_first, summary_metrics
from pipelines.sweep.resources import TrialResources, machines_for, resources_for
from pipelines.sweep.search import GRACE
from pipelines.sweep.study import PARTS, SweepStudy, as_json
from pipelines.sweep.tracking import SweepTracker, counted
from pipelines.sweep.tuner import StudySearch, run_trials

BASELINE = "the baseline"


def prepare(config: RunConfig, options: TrialOptions, folder: StudyFolder) -> tuple[TrialResources, Datasets]:
    """The machines, waited for, and the words, prepared here.

    Raises: ValueError if no trial fits, or for words that cannot be trained with.
    """
    cluster = connect()
    machines = machines_for(options, config, cluster.offers_gpus)
    resources = resources_for(options, cluster.prepare(machines, folder.path, progress_bar("waiting for machines")))
    words = load_datasets(config.data, charset_of(config), progress=progress_bar("preparing words"))
    check_words(config, words)
    folder.claim_data(words.fingerprints)
    for sentence in summary(words):
        say(sentence)
    return replace(resources, settings={**resources.settings, "datasets": words.description}), words


@contextmanager
def recorded(folder: StudyFolder, words: Datasets, tracker: SweepTracker, report: Callable[[], str]) -> Iterator[None]:
    """MLflow follows what is done inside; a report is written, and its page printed, however it ends.

    Args:
        report: writes it, and returns the one sentence that answers the sweep's question, or ''.
    """
    description = describe(folder.config, words)
    asked = {f"sweep.{name}": "" if value is None else value for name, value in folder.options.model_dump().items()}
    tags = {"mlflow.source.name": folder.command, "sweep.role": folder.noun}
    parameters = {**description.parameters, **asked}
    tracker.begin(replace(description, parameters=parameters, tags={**description.tags, **tags}))
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    status: Status = "KILLED"
    try:
        with tracker:
            yield
        status = "FAILED" if folder.num_missing else "FINISHED"
    except RunStopped:
        status = "FAILED"
        raise
    finally:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        answer = report()
        if status == "FINISHED":
            folder.mark_finished()
        tracker.end(status, folder.artifacts, {"sweep.answer": answer} if answer else {})
        signal.signal(signal.SIGINT, signal.default_int_handler)
        print(f"\n{folder.table.read_text(encoding='utf-8')}\nAll of it: {folder.path}")
        if tracker.parent.where:
            print(f"Trials with their curves: {tracker.parent.where}")


def try_points(config: RunConfig, folder: SweepFolder, resources: TrialResources, words: Datasets) -> None:
    """Trials until as many as were asked for have ended.

    Raises: RunStopped; KeyboardInterrupt.
    """
    options = folder.options
    if not all(folder.space.holds(point) for point in folder.points):
        say("a point to be tried first lies outside the space: it is tried, but the search learns nothing from it")
    folder.trials.enqueue(folder.points)
    config = config.override({"num_steps": options.trial_steps or config.num_steps})
    num_steps = total_steps(config, len(words.train))
    if options.scheduler == "asha" and PARTS * config.validate_every > GRACE * num_steps:
        say(
            f"trials of {num_steps} steps read the validation split every {config.validate_every}: too seldom for ASHA "
            "to stop one at a quarter or half of its length; give a smaller --validate-every"
        )
    _run(folder.trials, "trial", folder.num_trials, config, folder, resources, lambda: record_summary(folder))


def record_summary(folder: SweepFolder, test: SignificanceTest | None = None) -> None:
    """What is known of the sweep so far, into its metrics log."""
    ended = folder.trials.ended
    MetricsLog(folder.metrics_log).record(len(ended), summary_metrics(ended, test))


def candidates(folder: SweepFolder) -> dict[str, Mapping[str, Any]]:
    """The baseline, then the best trials of other points that ran to their end, by their titles.

    Two trials of one point are one candidate.
    """
    assert folder.trials.baseline is not None
    points: dict[str, Mapping[str, Any]] = {BASELINE: folder.trials.baseline}
    for trial in best_first(folder.trials.ended):
        if len(points) <= folder.options.confirm and trial.params not in points.values():
            points[trial.title] = trial.params
    return points


def confirmation_seeds(folder: SweepFolder) -> list[int]:
    """The sweep's own seed is not among them: with it the candidates were chosen."""
    return [folder.config.seed + 1 + place for place in range(folder.options.confirm_seeds)]


def confirm(config: RunConfig, folder: SweepFolder, resources: TrialResources) -> SignificanceTest | None:
    """Trains the candidates anew, all with the first seed, then with the next, and tests what they read.

    Returns: nothing, with a sentence, where it does not come to a test.
    Raises: RunStopped; KeyboardInterrupt.
    """
    found = candidates(folder)
    if len(found) < 2:
        say("there is nothing to confirm: no trial but the baseline's ran to its end")
        return None
    points = [as_json({**point, "seed": seed}) for seed in confirmation_seeds(folder) for point in found.values()]
    _train_all(folder.confirmation, "confirmation", points, config, folder, resources)
    test = confirmation_test(folder, say)
    if test is not None:
        record_summary(folder, test)
    return test


def confirmation_test(folder: SweepFolder, say: Callable[[str], None]) -> SignificanceTest | None:
    """Of what was trained anew; None, with a sentence, where it does not suffice for one.

    A candidate counts if every one of its seeds came to its end.
    """
    done = [trial for trial in folder.confirmation.ended if trial.state == "FINISHED"]
    correct = {}
    for name, point in candidates(folder).items():
        wanted = [as_json({**point, "seed": seed}) for seed in confirmation_seeds(folder)]
        trials = [next((trial for trial in done if trial.params == params), None) for params in wanted]
        files = [trial.folder / "evaluation" / "predictions.parquet" for trial in trials if trial is not None]
        if len(files) == len(wanted):
            correct[name] = read_correct(files, folder.config.recognizer.trained_column)
        else:
            say(f"the confirmation has no whole set of seeds for {name}, which is left out of the test")
    if BASELINE not in correct or len(correct) < 2:
        say("there is no test: it takes the baseline and at least one other, each with all its seeds")
        return None
    return compare_paired(correct.pop(BASELINE), correct, name=BASELINE)


def train_compared(config: RunConfig, folder: CompareFolder, resources: TrialResources) -> None:
    """Trains and reads what did not come to its end before.

    Raises: RunStopped; KeyboardInterrupt.
    """
    _train_all(folder.runs, "run", [as_json(run.fields) for run in folder.asked], config, folder, resources)


def _train_all(
    study: SweepStudy,
    label: str,
    points: list[dict[str, Any]],
    config: RunConfig,
    folder: StudyFolder,
    resources: TrialResources,
) -> None:
    """Trains every point to its end and reads the benchmarks; also what an earlier command began and left open."""
    study.enqueue(points)
    wanted = sum(trial.params not in points for trial in study.trials) + len(points)
    _run(study, label, wanted, config, folder, resources, lambda: None, benchmarks=True)


def _run(
    study: SweepStudy,
    label: str,
    num_trials: int,
    config: RunConfig,
    folder: StudyFolder,
    resources: TrialResources,
    record: Callable[[], None],
    benchmarks: bool = False,
) -> None:
    study.retry_failed()
    # As many micro-batches as the run has workers, by whatever number of them they are computed.
    workers = max(config.workers, resources.settings["workers"])
    shared = config.override({"workers": workers, "benchmark_every": 0})
    search = StudySearch(study, shared, {**resources.settings, "benchmarks": benchmarks})
    with counted(study, label, num_trials, record):
        run_trials(search, num_trials, resources, folder.path)
