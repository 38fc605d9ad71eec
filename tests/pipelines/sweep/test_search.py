"""Which point is tried next: under one driver, and under the next one after it was killed."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import pytest
from ray import tune
from ray.tune.search import Searcher

from kdltr_core.config import RunConfig
from pipelines.run.metrics_log import MetricsLog
from pipelines.sweep.options import SweepOptions
from pipelines.sweep.points import first_points
from pipelines.sweep.resources import Room
from pipelines.sweep.search import MOST_DIVERGED, LedgerSearch, sampler_for
from pipelines.sweep.study import ERROR_FILE, Ledger
from pipelines.sweep.sweep import State
from pipelines.sweep.trial import BEST, NOW, PERCENT_DONE, STOP_FILE, leave_error
from pipelines.sweep.tuner import asha
from tune_spaces.space import Space

SOFT = "objective.soft_logits"
SPACE = Space("s", {SOFT: tune.loguniform(2.0, 200.0), "optim.schedule": tune.choice(["step", "cosine"])})
CONFIG = RunConfig().override({"name": "sweep", "num_steps": 100})
OWN = {SOFT: 20.0, "optim.schedule": "step"}


def searcher(folder: Path, search: str = "tpe", space: Space = SPACE, num_trials: int = 12) -> LedgerSearch:
    ledger = Ledger(folder, OWN)
    options = SweepOptions(num_trials=num_trials, search=search)  # type: ignore[arg-type]
    sampler = sampler_for(options, 0, len(ledger.entries))
    return LedgerSearch(ledger, CONFIG, first_points(space, CONFIG), {"threads": 1}, space, sampler)


def begin(search: LedgerSearch, trial_id: str) -> Path:
    settings = search.suggest(trial_id)
    assert isinstance(settings, dict)
    assert settings["threads"] == 1
    return Path(settings["folder"])


def end(search: LedgerSearch, trial_id: str, folder: Path, accuracy: float, percent: float = 100.0) -> None:
    """As Tune tells it: a result at every validation, the last one again at the end."""
    MetricsLog(folder / "metrics.jsonl").record(int(percent), {"validation/word_accuracy": accuracy})
    result = {PERCENT_DONE: percent, BEST: accuracy, "training_iteration": 1}
    search.on_trial_result(trial_id, result)
    search.on_trial_complete(trial_id, result)


def run(search: LedgerSearch, num: int, prefix: str) -> list[dict[str, Any]]:
    """So many trials, and the points of all so far; the nearer soft_logits is to 120, the better."""
    for place in range(num):
        folder = begin(search, f"{prefix}{place}")
        end(search, f"{prefix}{place}", folder, accuracy(search.ledger.entries[int(folder.name)].params))
    return [dict(entry.params) for entry in search.ledger.entries]


def accuracy(point: Mapping[str, Any]) -> float:
    return 80 - 30 * math.log10(point[SOFT] / 120) ** 2


def missed(points: Sequence[Mapping[str, Any]]) -> float:
    """By how much they are below the best there is, on the average."""
    return sum(80 - accuracy(point) for point in points) / len(points)


def test_the_published_point_is_tried_first_then_the_space_s_own_then_optuna_s(tmp_path: Path) -> None:
    mine = {SOFT: 3.0, "optim.schedule": "cosine"}
    points = run(searcher(tmp_path, space=Space("s", SPACE.domains, (mine,))), 4, "a")
    assert points[:2] == [OWN, mine]
    assert len({str(point) for point in points}) == 4
    assert all(SPACE.holds(point) for point in points)


def test_every_trial_has_the_whole_config_that_it_trains(tmp_path: Path) -> None:
    search = searcher(tmp_path)
    begin(search, "a")
    config = RunConfig.from_yaml(begin(search, "b") / "config.yaml")
    params = search.ledger.entries[1].params
    assert config == CONFIG.override({**params, "name": "sweep-0001"})


def test_the_search_learns_where_the_good_points_are(tmp_path: Path) -> None:
    """Of 30 points the last ten miss the best accuracy by less than half of what the published one misses it by."""
    points = {search: run(searcher(tmp_path / search, search, num_trials=30), 30, "a") for search in ("tpe", "random")}
    assert missed(points["tpe"][20:]) < 0.5 * missed([OWN])
    assert missed(points["random"][20:]) > missed([OWN])


@pytest.mark.parametrize("search", ["tpe", "random"])
def test_the_next_driver_goes_on_with_what_was_open_and_repeats_nothing(tmp_path: Path, search: str) -> None:
    first = searcher(tmp_path, search)
    before = run(first, 3, "a")
    begin(first, "killed 0")
    begin(first, "killed 1")
    second = searcher(tmp_path, search)
    folders = [begin(second, "b0"), begin(second, "b1")]
    assert {folder.name for folder in folders} == {"0003", "0004"}
    for place, folder in enumerate(folders):
        end(second, f"b{place}", folder, 50.0)
    points = run(second, 3, "c")
    assert points[:3] == before
    assert len({str(point) for point in points}) == len(points) == 8


def test_the_next_driver_s_search_knows_what_was_read_before(tmp_path: Path) -> None:
    """Told of 20 trials, it draws near their best point at once; told nothing, its first points are random."""
    run(searcher(tmp_path / "told", num_trials=30), 20, "a")
    told = run(searcher(tmp_path / "told", num_trials=30), 10, "b")[20:]
    new = run(searcher(tmp_path / "new", num_trials=30), 10, "a")
    assert missed(told) < 0.5 * missed([OWN])
    assert missed(new) > missed([OWN])


def test_a_published_point_outside_the_space_is_tried_all_the_same(tmp_path: Path) -> None:
    narrow = Space("s", {SOFT: tune.loguniform(40.0, 200.0), "optim.schedule": SPACE.domains["optim.schedule"]})
    points = run(searcher(tmp_path, space=narrow), 3, "a")
    assert points[0] == OWN
    assert all(narrow.holds(point) for point in points[1:])
    points = run(searcher(tmp_path, space=narrow), 1, "b")  # and is not told to Optuna by the next driver either
    assert narrow.holds(points[3])


@pytest.mark.parametrize(
    ("percent", "error", "lost", "state", "said"),
    [
        (100.0, "", False, "FINISHED", ""),
        (50.0, "", False, "PRUNED", ""),
        (50.0, "ValueError: no such file", False, "FAILED", "ValueError: no such file"),
        (50.0, "", True, "FAILED", "the process of the trial was lost"),
    ],
)
def test_how_a_trial_ended_is_told_as_it_was(
    tmp_path: Path, percent: float, error: str, lost: bool, state: State, said: str
) -> None:
    search = searcher(tmp_path)
    folder = begin(search, "a")
    (folder / "checkpoints").mkdir()
    if error:
        (folder / ERROR_FILE).write_text(f"{error}\n\nTraceback")
    search.on_trial_complete("a", {PERCENT_DONE: percent, BEST: 60.0}, error=lost)
    (entry,) = search.ledger.ended
    assert entry.state == state
    assert entry.error.startswith(said)
    # Only what may be tried again needs its checkpoints.
    assert (folder / "checkpoints").exists() == (state == "FAILED")


def test_a_point_that_no_run_can_have_fails_without_being_trained(tmp_path: Path) -> None:
    space = Space("s", {"optim.batch_size": tune.choice([63, 64])}, ({"optim.batch_size": 63},))
    ledger = Ledger(tmp_path, {"optim.batch_size": 64})
    config = CONFIG.override({"workers": 2})
    search = LedgerSearch(ledger, config, [{"optim.batch_size": 63}], {}, space, None)
    assert "does not divide by workers 2" in (Path(search.suggest("a")["folder"]) / ERROR_FILE).read_text()  # type: ignore[index, call-overload]
    search.on_trial_complete("a", {})
    assert ledger.ended[0].state == "FAILED"


def fail(search: LedgerSearch, trial_id: str, error: Exception) -> None:
    leave_error(begin(search, trial_id), error)
    search.on_trial_complete(trial_id, {})


def test_three_trials_in_a_row_with_the_same_error_end_the_sweep(tmp_path: Path) -> None:
    """The same but for numbers and paths, in which they differ by trial."""
    search = searcher(tmp_path)
    for place in range(3):
        assert not search.stopped_because
        fail(search, str(place), OSError(f"no room in /runs/{place:04d}/student after {place + 7} steps"))
    assert search.suggest("next") == Searcher.FINISHED
    assert search.stopped_because.startswith("3 trials in a row failed of the same error")
    assert "no room in /runs/0002/student" in search.stopped_because
    assert len(search.stopped_because.splitlines()) == 1
    # What was open then, and what failed, is tried again by the next command.
    search.ledger.reopen_failed()
    assert len(search.ledger.open) == 3


def test_errors_that_differ_or_come_singly_do_not_end_it(tmp_path: Path) -> None:
    search = searcher(tmp_path)
    for place, error in enumerate([OSError("disk"), ValueError("disk"), OSError("disk"), OSError("disk")]):
        fail(search, f"a{place}", error)
    end(search, "b", begin(search, "b"), 50.0)
    fail(search, "c", OSError("disk"))
    assert isinstance(search.suggest("next"), dict)


def test_points_that_diverge_do_not_end_it_unless_nearly_all_do(tmp_path: Path) -> None:
    class TrainingDiverged(RuntimeError): ...

    search = searcher(tmp_path)
    for place in range(MOST_DIVERGED):
        assert not search.stopped_because
        fail(search, str(place), TrainingDiverged(f"not finite in 10 steps up to step {place}"))
    assert search.stopped_because


def test_a_list_of_points_alone_comes_to_its_end(tmp_path: Path) -> None:
    search = LedgerSearch(Ledger(tmp_path, {}), CONFIG, [{SOFT: 1.0}, {SOFT: 2.0}], {"threads": 1})
    assert [begin(search, name).name for name in "ab"] == ["0000", "0001"]
    assert search.suggest("c") == Searcher.FINISHED


def test_asha_knows_under_the_next_driver_what_it_knew_under_the_last(tmp_path: Path) -> None:
    """A trial that is behind those before it at a quarter of its length is stopped, as if all had run under it."""
    ledger = Ledger(tmp_path, OWN)
    for value in (10.0, 20.0):
        entry = ledger.begin({**OWN, SOFT: value})
        metrics_log = MetricsLog(entry.folder / "metrics.jsonl")
        for step in (0, 25, 50, 75, 100):
            metrics_log.record(step, {"validation/word_accuracy": 60.0 + step / 10})
        ledger.end(entry.number, "FINISHED")

    class Trial:
        trial_id = "new"
        config: ClassVar = {"folder": str(tmp_path)}

    def decision(percent: float, accuracy: float, workers: int = 0) -> str:
        scheduler = asha(Ledger(tmp_path, OWN), CONFIG, 1000, Room({}, 1, {"workers": workers}))
        new: Any = Trial()
        nobody: Any = None
        scheduler.on_trial_add(nobody, new)
        return scheduler.on_trial_result(nobody, new, {PERCENT_DONE: percent, NOW: accuracy})

    assert decision(0, 10.0) == "CONTINUE"
    assert decision(24, 10.0) == "CONTINUE"
    assert decision(25, 62.0) == "STOP"
    assert decision(25, 63.0) == "CONTINUE"
    assert decision(50, 64.0) == "STOP"
    assert decision(50, 65.5) == "CONTINUE"
    assert not (tmp_path / STOP_FILE).exists()
    # One with workers of its own is asked to stop, and does so by itself.
    assert decision(50, 64.0, workers=2) == "CONTINUE"
    assert (tmp_path / STOP_FILE).exists()
