"""The two halves of a sweep: points are tried, and the best of them trained anew."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from kdltr_core.config import RunConfig
from kdltr_core.data.dataset import Datasets
from kdltr_core.train.engine import total_steps
from pipelines.run.metrics_log import MetricsLog
from pipelines.run.progress import say
from pipelines.sweep.confirmation import contenders, points_with_seeds, significance_of
from pipelines.sweep.end import summary_metrics
from pipelines.sweep.folder import SweepFolder
from pipelines.sweep.options import SweepOptions
from pipelines.sweep.points import first_points, grid_points
from pipelines.sweep.progress import watched
from pipelines.sweep.resources import Room
from pipelines.sweep.search import LedgerSearch, sampler_for
from pipelines.sweep.study import Ledger
from pipelines.sweep.tuner import GRACE_PERCENT, asha, run_trials
from tune_spaces.space import Space

if TYPE_CHECKING:
    from kdltr_core.evaluation.significance import SignificanceTest


def given_points(config: RunConfig, space: Space, options: SweepOptions) -> list[dict[str, Any]]:
    """What is tried before the searcher has its say, or all of a grid.

    Raises: ValueError if the trials make no grid.
    """
    points = first_points(space, config)
    if options.search == "grid":
        points += grid_points(space, options.num_trials, beside=points)
    return points


def try_points(
    config: RunConfig,
    space: Space,
    points: Sequence[Mapping[str, Any]],
    folder: SweepFolder,
    room: Room,
    words: Datasets,
) -> None:
    """Trials, ``points`` first, until as many as were asked for have ended.

    Raises: RunStopped; KeyboardInterrupt.
    """
    options, ledger = folder.options, folder.trials
    ledger.reopen_failed()
    config = trial_config(config, room).override({"num_steps": options.trial_steps or config.num_steps})
    num_trials = options.num_trials
    if options.search == "grid":
        num_trials = min(num_trials, max(len(points), len(ledger.ended)))
    elif not all(space.holds(point) for point in points):
        say("a point to be tried first lies outside the space: it is tried, but the search learns nothing from it")
    num_steps = total_steps(config, len(words.train))
    if options.scheduler == "asha" and 100 * config.validate_every > GRACE_PERCENT * num_steps:
        say(
            f"trials of {num_steps} steps read the validation split every {config.validate_every}: too seldom for ASHA "
            "to stop one at a quarter or half of its length; give a smaller --validate-every"
        )
    search = LedgerSearch(
        ledger,
        config,
        points,
        {**room.settings, "benchmarks": False},
        None if options.search == "grid" else space,
        sampler_for(options, config.seed, len(ledger.entries)),
    )
    scheduler = asha(ledger, config, len(words.train), room) if options.scheduler == "asha" else None
    with watched(ledger, "trial", num_trials, recorder(folder)):
        run_trials(search, num_trials, room, folder.path, scheduler)


def recorder(folder: SweepFolder) -> Callable[[Ledger], None]:
    """What is known of the sweep so far, into its metrics log."""
    metrics_log = MetricsLog(folder.path / "metrics.jsonl")

    def record(ledger: Ledger) -> None:
        metrics_log.record(len(ledger.ended), summary_metrics([entry.to_trial() for entry in ledger.ended], None))

    return record


def confirm(config: RunConfig, folder: SweepFolder, room: Room) -> SignificanceTest | None:
    """Retrains the best points and the published one at full length, and compares what they read of the benchmarks.

    Returns: nothing, with a sentence, where it does not come to a verdict.
    Raises: RunStopped; KeyboardInterrupt.
    """
    if len(contenders(folder)) < 2:
        say("there is nothing to confirm: no trial but the published point's ran to its end")
        return None
    ledger = folder.confirmation
    ledger.reopen_failed()
    points = points_with_seeds(folder, config)
    search = LedgerSearch(ledger, trial_config(config, room), points, {**room.settings, "benchmarks": True})
    wanted = sum(entry.params not in points for entry in ledger.ended) + len(points)
    with watched(ledger, "confirmation", wanted):
        run_trials(search, wanted, room, folder.path)
    verdict = significance_of(folder, config, say)
    if verdict is not None:
        metrics_log = MetricsLog(folder.path / "metrics.jsonl")
        trials = [entry.to_trial() for entry in folder.trials.ended]
        metrics_log.record(len(trials), summary_metrics(trials, verdict))
    return verdict


def trial_config(config: RunConfig, room: Room) -> RunConfig:
    """What all trials share. As many shares of a batch as the run has workers, by whatever number they are computed."""
    return config.override({"workers": max(config.workers, room.settings["workers"]), "benchmark_every": 0})
