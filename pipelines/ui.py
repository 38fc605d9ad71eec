"""The recorded runs in a browser, by MLflow's own server:  python pipelines/ui.py [--tracking-uri URI]"""

from __future__ import annotations

import os
import subprocess
import sys

import tyro

from kdltr_core.config import RunConfig
from pipelines.run.command_line import absolute, answer_mistakes


def browse(
    tracking_uri: str = RunConfig().tracking_uri,
    experiment: str = RunConfig().experiment,
    host: str = "127.0.0.1",
    port: int = 5000,
) -> int:
    """Browse the recorded runs: MLflow's server for a local database, and the address of the experiment's runs.

    Args:
        tracking_uri: database, or address of a running server
        experiment: experiment that is opened
        host: address to listen at
        port: port to listen at
    """
    # Not at the top: mlflow takes seconds, which --help and a mistyped option need not wait for.
    from mlflow import MlflowClient

    from pipelines.run.tracking import experiment_id, runs_page, with_secrets

    run = absolute(RunConfig(tracking_uri=tracking_uri, experiment=experiment))
    if not run.tracking_uri:
        raise ValueError("--tracking-uri is empty; give the database of the runs, such as sqlite:///mlflow.db")
    uri = with_secrets(run.tracking_uri)
    opened = experiment_id(MlflowClient(uri), experiment, uri)
    if uri.startswith(("http://", "https://")):
        print(runs_page(run.tracking_uri, opened))
        return 0
    page = runs_page(f"http://{host}:{port}", opened)
    print(f"Runs of kdltr, some seconds from now: {page}\nCtrl-C ends the server.", flush=True)
    server = [sys.executable, "-m", "mlflow", "server", "--backend-store-uri", uri, "--workers", "1"]
    quiet = {"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "0", "PYTHONWARNINGS": "ignore"}
    listening = ["--host", host, "--port", str(port), "--uvicorn-opts", "--log-level=warning"]
    try:
        return subprocess.run([*server, *listening], env={**quiet, **os.environ}).returncode
    except KeyboardInterrupt:
        return 0


def main() -> int:
    return tyro.cli(browse, prog="kdltr ui")


if __name__ == "__main__":
    sys.exit(answer_mistakes(main))
