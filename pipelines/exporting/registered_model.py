"""An exported graph as a model of MLflow's registry, beside the run that made its student."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path

import mlflow
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from kdltr_core.config import RunConfig
from kdltr_core.files import read_json
from pipelines.prediction.onnx_reader import OnnxReader
from pipelines.run.command_line import RunStopped, absolute
from pipelines.run.folder import TRACKING_FILE
from pipelines.run.logged_model import log_model
from pipelines.run.tracking import experiment_id, is_gone, with_secrets


def register(graph: Path, student: Path, tracking_uri: str, name: str, found: Mapping[str, str]) -> str:
    """A new version of a registered model, which reads the bytes of images. The student's run links to it.

    Args:
        graph: the ONNX file.
        student: the weights that it was made of; beside them are the files of the run.
        tracking_uri: '' for that of the run; else what is asked instead, which knows the run or does not.
        name: of the registered model; '' for one by the recognizer.
        found: tags of the version, beside the graph's own notes.

    Returns: the version's URI, ``models:/name/1``.
    Raises: RunStopped if MLflow does not take it.
    """
    notes = OnnxReader(graph).notes
    name = name or f"kdltr-{notes['recognizer'].replace('_', '-')}"
    beside = student.with_name("config.yaml")
    config = RunConfig.from_yaml(beside) if beside.is_file() else RunConfig()
    run = _run_of(student)
    uri = tracking_uri or str(run.get("uri") or config.tracking_uri or RunConfig().tracking_uri)
    uri = absolute(RunConfig(tracking_uri=uri)).tracking_uri
    for logger in ("alembic", "mlflow"):
        logging.getLogger(logger).setLevel(logging.ERROR)
    try:
        mlflow.set_tracking_uri(with_secrets(uri))
        client = MlflowClient()
        experiment = experiment_id(client, config.experiment, uri)
        run_id = str(run["run_id"]) if run and not is_gone(client, str(run["run_id"])) else None
        model_id = log_model(client, graph, experiment, run_id, "reader", ("onnxruntime",), notes)
        version = str(mlflow.register_model(f"models:/{model_id}", name).version)
        tags = {key: notes[key] for key in ("recognizer", "weights", "source_sha256")} | dict(found)
        for key, value in tags.items():
            client.set_model_version_tag(name, version, key, value)
    except (MlflowException, OSError) as error:
        reason = str(error).partition("\n")[0]
        raise RunStopped(f"MLflow at {uri} does not take the model: {reason}") from error
    return f"models:/{name}/{version}"


def _run_of(student: Path) -> dict[str, object]:
    """What the run's tracker knows, in the student's folder or the run's above it; empty without one."""
    for folder in student.resolve().parents[:2]:
        if (folder / TRACKING_FILE).is_file():
            return read_json(folder / TRACKING_FILE, dict[str, object], "give --tracking-uri and move it away")
    return {}
