"""A trial that is lost with its process leaves nothing of the cluster taken."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import ray
from ray.util.placement_group import placement_group
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from pipelines.sweep.trial_place import PLACE_FILE, note_place, release_place

pytestmark = [pytest.mark.slow, pytest.mark.long]


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False)
    yield
    ray.shutdown()


@ray.remote(num_cpus=0.1)
class Trial:
    """Takes the other CPUs for a worker, as Ray Train's controller does within a trial."""

    def begin(self, folder: str) -> int:
        self.group = placement_group([{"CPU": 1.9}])
        ray.get(self.group.ready())
        place = PlacementGroupSchedulingStrategy(self.group)
        worker = ray.remote(num_cpus=1.9)(note_place).options(scheduling_strategy=place)
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


def test_what_a_lost_trial_held_is_taken_until_it_is_released(cluster: None, tmp_path: Path) -> None:
    trial = Trial.remote()  # type: ignore[attr-defined]
    assert ray.get(trial.begin.remote(str(tmp_path))) == 1
    ray.kill(trial)
    assert not wait_for_cpus(1.9, seconds=5)  # Ray holds on to it
    release_place(tmp_path)
    assert wait_for_cpus(1.9, seconds=60)
    assert not (tmp_path / PLACE_FILE).exists()
    release_place(tmp_path)  # of which there is nothing left


def test_a_note_from_a_cluster_that_is_gone_does_no_harm(cluster: None, tmp_path: Path) -> None:
    (tmp_path / PLACE_FILE).write_text("ab" * 18)
    release_place(tmp_path)
    assert not (tmp_path / PLACE_FILE).exists()
