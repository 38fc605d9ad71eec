"""The runs of a comparison, as many at a time as there is room for, and the table that they come to."""

from __future__ import annotations

from kdltr_core.config import RunConfig
from pipelines.run.metrics_log import MetricsLog
from pipelines.sweep.comparison_folder import CompareFolder
from pipelines.sweep.phases import trial_config
from pipelines.sweep.progress import watched
from pipelines.sweep.resources import Room
from pipelines.sweep.search import LedgerSearch
from pipelines.sweep.study import plain
from pipelines.sweep.tuner import run_trials


def train_all(config: RunConfig, folder: CompareFolder, room: Room) -> None:
    """Trains and reads what did not come to its end before; each run as a sweep's confirmation trains it.

    Raises: RunStopped; KeyboardInterrupt.
    """
    ledger, points = folder.runs, [plain(run.fields) for run in folder.asked]
    ledger.reopen_failed()
    search = LedgerSearch(ledger, trial_config(config, room), points, {**room.settings, "benchmarks": True})
    # Runs of an objective that is no longer asked for are brought to their end as well.
    wanted = sum(entry.params not in points for entry in ledger.entries) + len(points)
    with watched(ledger, "run", wanted):
        run_trials(search, wanted, room, folder.path)


def write_report(folder: CompareFolder) -> None:
    """The table, and its figures where the comparison's own run in MLflow finds them."""
    result = folder.write_report()
    MetricsLog(folder.metrics_log).record(len(folder.runs.ended), result.metrics())
