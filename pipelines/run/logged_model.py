"""A student as a logged model of MLflow: what the page of its run links to, and what MLflow serves."""

from __future__ import annotations

import os
import tempfile
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path

import mlflow.pyfunc
import pandas as pd
from mlflow import MlflowClient
from mlflow.entities import LoggedModelOutput
from mlflow.models import Model, infer_signature


def log_model(
    client: MlflowClient,
    student: Path,
    experiment_id: str,
    run_id: str | None,
    name: str = "student",
    requirements: Sequence[str] = (),
    notes: Mapping[str, str] | None = None,
) -> str:
    """A new logged model, an output of the run, which reads the bytes of images. Touches no state of ``mlflow``'s own.

    Args:
        student: a folder or file that ``open_reader`` takes.
        run_id: of the run that made it; None where the server does not know it.
        requirements: packages beside kdltr.

    Returns: the model's id; ``models:/ID`` is its URI.
    """
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    model = client.create_logged_model(experiment_id, name, run_id)
    words = pd.DataFrame({"text": [""], "confidence": [0.0], "character_confidences": [[0.0]]})
    with tempfile.TemporaryDirectory() as scratch, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        mlflow.pyfunc.save_model(
            Path(scratch, "model"),
            mlflow_model=Model(model_id=model.model_id, run_id=run_id),
            python_model=str(Path(__file__).with_name("mlflow_model.py")),
            artifacts={"student": str(student)},
            signature=infer_signature(pd.DataFrame({"image": [b""]}), words),
            pip_requirements=["kdltr", *requirements],
            metadata=dict(notes or {}),
        )
        client.log_model_artifacts(model.model_id, str(Path(scratch, "model")))
    client.finalize_logged_model(model.model_id, "READY")
    if run_id:
        client.log_outputs(run_id, [LoggedModelOutput(model.model_id, step=0)])
    return model.model_id
