"""As many trials at a time as the machines have room for."""

from __future__ import annotations

import pytest

from pipelines.ray_train.cluster import Cluster
from pipelines.sweep.options import TrialOptions
from pipelines.sweep.resources import machines_for, resources_for


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
    found = resources_for(TrialOptions.model_validate(options), Cluster(cpus, gpus, num_nodes=1, offers_gpus=gpus > 0))
    assert (found.num_at_a_time, found.of_a_trial) == (num, resources)


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
