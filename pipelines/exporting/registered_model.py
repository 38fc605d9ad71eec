"""An exported graph as a model of MLflow's registry, beside the run that made its student."""

from __future__ import annotations

import hashlib
import json
import logging
import tempfile
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import mlflow.pyfunc
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from mlflow.models import ModelSignature
from mlflow.protos.databricks_pb2 import RESOURCE_ALREADY_EXISTS, RESOURCE_DOES_NOT_EXIST, ErrorCode
from mlflow.types.schema import ColSpec, DataType, Schema

from kdltr_core.config import RunConfig
from pipelines.prediction.onnx_reader import OnnxReader
from pipelines.run.command_line import RunStopped, absolute
from pipelines.run.folder import TRACKING_FILE
from pipelines.run.tracking import experiment_id

_CODE = Path(__file__).with_name("mlflow_model.py")
_SIGNATURE = ModelSignature(
    inputs=Schema([ColSpec(DataType.binary, "image")]),
    outputs=Schema([ColSpec(DataType.string, "text"), ColSpec(DataType.double, "confidence")]),
)


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
            state = json.loads((folder / TRACKING_FILE).read_text())
            uri, run_id = state["uri"] or uri, state["run_id"]
            break
    return Origin(absolute(RunConfig(tracking_uri=tracking_uri or uri)).tracking_uri, config.experiment, run_id)


def register(graph: Path, origin: Origin, name: str, found: Mapping[str, str]) -> str:
    """A new version of a registered model, in the student's run; in a run of its own where the server has no such.

    Args:
        graph: the ONNX file.
        name: of the registered model; '' for one by the recognizer.
        found: tags of the version, beside the graph's own notes.

    Returns: the version's URI, ``models:/name/1``.
    Raises: RunStopped if MLflow does not take it.
    """
    notes = OnnxReader(graph).notes
    name = name or f"kdltr-{notes['recognizer'].replace('_', '-')}"
    logging.getLogger("alembic").setLevel(logging.ERROR)
    try:
        client = MlflowClient(origin.uri)
        run_id = _run(client, origin, name)
        # By its content: a later version does not replace the files of an earlier one.
        folder = f"reader-{hashlib.sha256(graph.read_bytes()).hexdigest()[:12]}"
        with tempfile.TemporaryDirectory(prefix="kdltr-model-") as scratch:
            _save(Path(scratch) / "model", graph, notes)
            client.log_artifacts(run_id, str(Path(scratch) / "model"), folder)
        _name_model(client, name)
        tags = {"run_id": run_id, **{key: notes[key] for key in ("recognizer", "weights", "source_sha256")}, **found}
        version = client.create_model_version(name, f"runs:/{run_id}/{folder}", run_id, tags=tags)
    except (MlflowException, OSError) as error:
        reason = str(error).partition("\n")[0]
        raise RunStopped(f"MLflow at {origin.uri} does not take the model: {reason}") from error
    return f"models:/{name}/{version.version}"


def _save(folder: Path, graph: Path, notes: Mapping[str, str]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        mlflow.pyfunc.save_model(
            str(folder),
            python_model=str(_CODE),
            artifacts={"graph": str(graph)},
            signature=_SIGNATURE,
            pip_requirements=["kdltr", "onnxruntime"],
            metadata=dict(notes),
        )


def _run(client: MlflowClient, origin: Origin, name: str) -> str:
    """The run's id if the server knows it, else that of a new run."""
    if origin.run_id:
        try:
            return client.get_run(origin.run_id).info.run_id
        except MlflowException as error:
            if error.error_code != ErrorCode.Name(RESOURCE_DOES_NOT_EXIST):
                raise
    run = client.create_run(experiment_id(client, origin.experiment, origin.uri), run_name=f"export of {name}")
    client.set_terminated(run.info.run_id)
    return run.info.run_id


def _name_model(client: MlflowClient, name: str) -> None:
    try:
        client.create_registered_model(name)
    except MlflowException as error:
        if error.error_code != ErrorCode.Name(RESOURCE_ALREADY_EXISTS):
            raise
