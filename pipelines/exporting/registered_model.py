"""An exported graph as a model of MLflow's registry, beside the run that made its student."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
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


@dataclass(frozen=True)
class Origin:
    """Where a student comes from: the server that knows its run, the experiment, and the run ('' if not recorded)."""

    uri: str
    experiment: str
    run_id: str


def origin_of(student: Path, tracking_uri: str) -> Origin:
    """By the files that its run wrote beside it.

    Args:
        student: weights, in a run's folder or the student's folder in it.
        tracking_uri: '' for that of the run; else what is asked instead, which knows the run or does not.
    """
    beside = student.with_name("config.yaml")
    config = RunConfig.from_yaml(beside) if beside.is_file() else RunConfig()
    uri, run_id = config.tracking_uri or RunConfig().tracking_uri, ""
    for folder in student.resolve().parents[:2]:
        if (folder / TRACKING_FILE).is_file():
            state = read_json(folder / TRACKING_FILE, dict[str, object], "give --tracking-uri and move it away")
            uri, run_id = str(state["uri"] or uri), str(state["run_id"])
            break
    return Origin(absolute(RunConfig(tracking_uri=tracking_uri or uri)).tracking_uri, config.experiment, run_id)


def register(graph: Path, origin: Origin, name: str, found: Mapping[str, str]) -> str:
    """A new version of a registered model, which reads the bytes of images. The student's run links to it.

    Args:
        graph: the ONNX file.
        name: of the registered model; '' for one by the recognizer.
        found: tags of the version, beside the graph's own notes.

    Returns: the version's URI, ``models:/name/1``.
    Raises: RunStopped if MLflow does not take it.
    """
    notes = OnnxReader(graph).notes
    name = name or f"kdltr-{notes['recognizer'].replace('_', '-')}"
    for logger in ("alembic", "mlflow"):
        logging.getLogger(logger).setLevel(logging.ERROR)
    try:
        mlflow.set_tracking_uri(with_secrets(origin.uri))
        client = MlflowClient()
        run_id = origin.run_id if origin.run_id and not is_gone(client, origin.run_id) else None
        experiment = experiment_id(client, origin.experiment, origin.uri)
        model_id = log_model(client, graph, experiment, run_id, "reader", ("onnxruntime",), notes)
        info = mlflow.register_model(f"models:/{model_id}", name)
        version = str(info.version)
        tags = {key: notes[key] for key in ("recognizer", "weights", "source_sha256")} | dict(found)
        for key, value in tags.items():
            client.set_model_version_tag(name, version, key, value)
    except (MlflowException, OSError) as error:
        reason = str(error).partition("\n")[0]
        raise RunStopped(f"MLflow at {origin.uri} does not take the model: {reason}") from error
    return f"models:/{name}/{version}"
