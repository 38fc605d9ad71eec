"""As many trials at a time as the machines have room for, and one that is lost leaves nothing of the cluster taken."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import ray
from ray.util.placement_group import placement_group
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from kdltr_core.config import RunConfig
from pipelines.ray_train.cluster import Cluster
from pipelines.sweep.options import TrialOptions
from pipelines.sweep.resources import (
    PLACEMENT_FILE,
    machines_for,
    note_placement,
    release_placement,
    resources_for,
)


@pytest.mark.parametrize(
    ("cpus", "gpus", "options", "num", "resources"),
    [
        (2, 0, {}, 2, {"cpu": 1}),
        (16, 0, {"cpus_per_trial": 4}, 4, {"cpu": 4}),
        (16, 1, {}, 1, {"cpu": 1, "gpu": 1}),
        (16, 1, {"gpus_per_trial": 0.25}, 4, {"cpu": 1, "gpu": 0.25}),
        (16, 1, {"gpus_per_trial": 0.1}, 10, {"cpu": 1, "gpu": 0.1}),
        (8, 1, {"gpus_per_trial": 0.1}, 8, {"cpu": 1, "gpu": 0.1}),
        # A trial's share lies on one GPU: two of 0.4 fit each, and the rests of 0.2 are of no use together.
        (16, 2, {"gpus_per_trial": 0.4}, 4, {"cpu": 1, "gpu": 0.4}),
        (16, 5, {"gpus_per_trial": 2}, 2, {"cpu": 1, "gpu": 2}),
        (2, 0, {"workers_per_trial": 2}, 1, {"cpu": 0.1}),
        (9, 0, {"workers_per_trial": 2}, 4, {"cpu": 0.1}),
        (16, 4, {"workers_per_trial": 2}, 2, {"cpu": 0.1}),
        (16, 0, {"trials_at_a_time": 3}, 3, {"cpu": 1}),
        (2, 0, {"trials_at_a_time": 3}, 2, {"cpu": 1}),
    ],
)
def test_as_many_trials_as_fit(
    cpus: int, gpus: int, options: dict[str, float], num: int, resources: dict[str, float]
) -> None:
    found = resources_for(TrialOptions.model_validate(options), Cluster(cpus, gpus, num_nodes=1, offers_gpus=gpus > 0))
    assert (found.num_at_a_time, found.of_a_trial) == (num, resources)
    assert found.settings["use_gpu"] == (gpus > 0)


@pytest.mark.parametrize(
    ("options", "gpus", "wanted", "fewest"),
    [
        ({}, False, 1, 1),
        ({}, True, 1, 1),
        ({"trials_at_a_time": 8}, True, 8, 1),
        ({"trials_at_a_time": 8, "gpus_per_trial": 0.25}, True, 2, 1),
        ({"trials_at_a_time": 9, "gpus_per_trial": 0.25}, True, 3, 1),
        ({"trials_at_a_time": 10, "gpus_per_trial": 0.1}, True, 1, 1),
        ({"trials_at_a_time": 3, "workers_per_trial": 2}, True, 6, 2),
        ({"trials_at_a_time": 5, "cpus_per_trial": 3}, False, 15, 3),
        ({"cpus_per_trial": 3}, True, 1, 1),
    ],
)
def test_machines_are_awaited_for_the_trials_that_are_to_run_at_a_time(
    options: dict[str, float], gpus: bool, wanted: int, fewest: int
) -> None:
    """And those of one trial suffice to begin. The batch, which such a run would share out, is in nobody's way."""
    config = RunConfig().override({"optim.batch_size": 7, "optim.batch_norm": "synchronised"})
    asked = machines_for(TrialOptions.model_validate(options), config, gpus)
    assert (asked.workers, asked.min_workers) == (wanted, fewest)


@pytest.mark.parametrize(
    ("cpus", "gpus", "options", "said"),
    [
        (2, 0, {"gpus_per_trial": 0.5}, "--gpus-per-trial 0.5, and there are 2 CPUs and 0 GPUs"),
        (2, 0, {"cpus_per_trial": 4}, "--cpus-per-trial 4"),
        (2, 0, {"workers_per_trial": 3}, "--workers-per-trial 3, a CPU each"),
        (16, 1, {"workers_per_trial": 2}, "--workers-per-trial 2, a GPU each"),
    ],
)
def test_a_trial_that_fits_nowhere_is_refused(cpus: int, gpus: int, options: dict[str, float], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        resources_for(TrialOptions.model_validate(options), Cluster(cpus, gpus, num_nodes=1, offers_gpus=gpus > 0))


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False)
    yield
    ray.shutdown()


@ray.remote(num_cpus=0.1)
class LostTrial:
    """Takes the other CPUs for a worker, as Ray Train's controller does within a trial."""

    def begin(self, folder: str) -> int:
        self.group = placement_group([{"CPU": 1.9}])
        ray.get(self.group.ready())
        place = PlacementGroupSchedulingStrategy(self.group)
        worker = ray.remote(num_cpus=1.9)(note_placement).options(scheduling_strategy=place)
        ray.get(worker.remote(Path(folder)))
        return 1


def free_cpus() -> float:
    return ray.available_resources().get("CPU", 0.0)


def wait_for_cpus(wanted: float, seconds: float) -> bool:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if free_cpus() >= wanted:
            return True
        time.sleep(0.2)
    return False


@pytest.mark.slow
@pytest.mark.long
def test_what_a_lost_trial_held_is_taken_until_it_is_released(cluster: None, tmp_path: Path) -> None:
    trial = LostTrial.remote()  # type: ignore[attr-defined]
    assert ray.get(trial.begin.remote(str(tmp_path))) == 1
    ray.kill(trial)
    assert not wait_for_cpus(1.9, seconds=5)  # Ray holds on to it
    release_placement(tmp_path)
    assert wait_for_cpus(1.9, seconds=60)
    assert not (tmp_path / PLACEMENT_FILE).exists()
    release_placement(tmp_path)  # of which there is nothing left


@pytest.mark.slow
@pytest.mark.long
def test_a_note_from_a_cluster_that_is_gone_does_no_harm(cluster: None, tmp_path: Path) -> None:
    (tmp_path / PLACEMENT_FILE).write_text("ab" * 18)
    release_placement(tmp_path)
    assert not (tmp_path / PLACEMENT_FILE).exists()
