"""A study's trials in Ray Tune's words: how each ended, who is stopped, and when no more are begun."""

from __future__ import annotations

from pathlib import Path

import pytest
from ray.tune.search import Searcher

from kdltr_core.config import RunConfig
from kdltr_core.train.engine import TrainingDiverged
from pipelines.ray_train.cluster import Cluster
from pipelines.run.metrics_log import MetricsLog
from pipelines.sweep.options import SweepOptions, TrialOptions
from pipelines.sweep.search import pruner_for, sampler_for
from pipelines.sweep.study import ERROR_FILE, State, SweepStudy
from pipelines.sweep.trial import ACCURACY_NOW, PERCENT_DONE, leave_error
from pipelines.sweep.tuner import StudySearch, machines_for, resources_for
from tests.pipelines.sweep.trials import SPACE

CONFIG = RunConfig().override({"name": "sweep", "num_steps": 100, "workers": 2})


def search_in(folder: Path) -> StudySearch:
    options = SweepOptions(search="random")
    study = SweepStudy(folder, space=SPACE, sampler=sampler_for(options, 0), pruner=pruner_for(options))
    return StudySearch(study, CONFIG, {"threads": 1}, "trial", 24)


def begin(search: StudySearch, trial_id: str) -> Path:
    settings = search.suggest(trial_id)
    assert isinstance(settings, dict)
    assert settings["threads"] == 1
    return Path(settings["folder"])


def test_every_trial_has_the_whole_config_that_it_trains(tmp_path: Path) -> None:
    search = search_in(tmp_path)
    begin(search, "a")
    config = RunConfig.from_yaml(begin(search, "b") / "config.yaml")
    assert config == CONFIG.override({**search.study.trials[1].params, "name": "sweep-0001"})


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
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    percent: float,
    error: str,
    lost: bool,
    state: State,
    said: str,
) -> None:
    search = search_in(tmp_path)
    folder = begin(search, "a")
    (folder / "checkpoints").mkdir()
    MetricsLog(folder / "metrics.jsonl").record(1, {"validation/word_accuracy": 60.0})
    if error:
        (folder / ERROR_FILE).write_text(f"{error}\n\nTraceback")
    search.on_trial_complete("a", {PERCENT_DONE: percent}, error=lost)
    (trial,) = search.study.ended
    assert (trial.state, trial.accuracy) == (state, 60.0)
    assert trial.error.startswith(said)
    assert f"1 of 24: trial 0 {state.lower()}, 60.00 % (soft_logits " in capsys.readouterr().err
    # Only what may be tried again needs its checkpoints.
    assert (folder / "checkpoints").exists() == (state == "FAILED")


def test_a_point_that_no_run_can_have_fails_without_being_trained(tmp_path: Path) -> None:
    search = StudySearch(SweepStudy(tmp_path), CONFIG, {"threads": 1}, "trial", 24)
    search.study.enqueue([{"optim.batch_size": 63}])
    assert "does not divide by workers 2" in (begin(search, "a") / ERROR_FILE).read_text()
    search.on_trial_complete("a", {})
    assert search.study.ended[0].state == "FAILED"
    assert search.suggest("b") == Searcher.FINISHED


def fail(search: StudySearch, trial_id: str, error: Exception) -> None:
    leave_error(begin(search, trial_id), error)
    search.on_trial_complete(trial_id, {})


def test_three_failed_trials_in_a_row_end_the_sweep(tmp_path: Path) -> None:
    search = search_in(tmp_path)
    for place in range(3):
        assert not search.stopped_because
        fail(search, str(place), OSError(f"no room in /runs/{place:04d}/student"))
    assert search.suggest("next") == Searcher.FINISHED
    assert search.stopped_because.startswith("3 trials in a row failed")
    assert "no room in /runs/0002/student" in search.stopped_because


def test_failures_with_another_end_between_and_points_that_diverge_do_not_end_it(tmp_path: Path) -> None:
    search = search_in(tmp_path)
    for place, error in enumerate([OSError("disk"), OSError("disk"), TrainingDiverged("not finite"), OSError("disk")]):
        fail(search, f"a{place}", error)
    begin(search, "b")
    search.on_trial_complete("b", {PERCENT_DONE: 50})
    for place in range(5):
        fail(search, f"c{place}", TrainingDiverged("not finite"))
    assert isinstance(search.suggest("next"), dict)


def test_who_is_behind_is_stopped(tmp_path: Path) -> None:
    search = search_in(tmp_path)
    for name in ("ahead", "behind"):
        begin(search, name)
    readings = (("ahead", 60.0, False), ("behind", 50.0, True))
    for name, accuracy, is_stopped in readings:
        assert search.is_behind(name, {PERCENT_DONE: 25.0, ACCURACY_NOW: accuracy}) == is_stopped


@pytest.mark.parametrize(
    ("cpus", "gpus", "options", "num", "resources"),
    [
        (16, 0, {"cpus_per_trial": 4}, 4, {"cpu": 4}),
        (16, 1, {}, 1, {"cpu": 1, "gpu": 1}),
        (8, 1, {"gpus_per_trial": 0.1}, 8, {"cpu": 1, "gpu": 0.1}),
        # A trial's share lies on one GPU: two of 0.4 fit each, and the rests of 0.2 are of no use together.
        (16, 2, {"gpus_per_trial": 0.4}, 4, {"cpu": 1, "gpu": 0.4}),
        (16, 0, {"trials_at_a_time": 3}, 3, {"cpu": 1}),
    ],
)
def test_as_many_trials_as_fit(
    cpus: int, gpus: int, options: dict[str, float], num: int, resources: dict[str, float]
) -> None:
    cluster = Cluster(cpus, gpus, num_nodes=1, offers_gpus=gpus > 0)
    assert resources_for(TrialOptions.model_validate(options), cluster) == (resources, num)


@pytest.mark.parametrize(
    ("options", "gpus", "wanted", "fewest"),
    [
        ({}, True, 1, 1),
        ({"trials_at_a_time": 9, "gpus_per_trial": 0.25}, True, 3, 1),
        ({"trials_at_a_time": 10, "gpus_per_trial": 0.1}, True, 1, 1),
        ({"trials_at_a_time": 5, "cpus_per_trial": 3}, False, 15, 3),
    ],
)
def test_machines_are_awaited_for_the_trials_that_are_to_run_at_a_time(
    options: dict[str, float], gpus: bool, wanted: int, fewest: int
) -> None:
    """And those of one trial suffice to begin."""
    assert machines_for(TrialOptions.model_validate(options), gpus) == (wanted, fewest)


@pytest.mark.parametrize("options", [{"gpus_per_trial": 0.5}, {"cpus_per_trial": 4}])
def test_a_trial_that_fits_nowhere_is_refused(options: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=r"no trial fits: .*, and there are 2 CPUs and 0 GPUs"):
        resources_for(TrialOptions.model_validate(options), Cluster(2, 0, num_nodes=1, offers_gpus=False))
