"""What MLflow has."""

from __future__ import annotations

from mlflow import MlflowClient
from mlflow.entities import Run


def tracked(uri: str, experiment: str = "kdltr") -> dict[str, Run]:
    """Its runs by name; a name that is there twice is an error."""
    client = MlflowClient(uri)
    known = client.get_experiment_by_name(experiment)
    assert known is not None
    found = client.search_runs([known.experiment_id])
    by_name = {str(run.info.run_name): run for run in found}
    assert len(by_name) == len(found)
    return by_name
