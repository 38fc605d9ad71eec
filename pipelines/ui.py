"""The recorded runs in a browser, by MLflow's own server:  python pipelines/ui.py [--tracking-uri URI]"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
import urllib.request
from dataclasses import dataclass

import tyro

from kdltr_core.config import RunConfig
from pipelines.run.command_line import absolute, answer_mistakes

SECONDS_TO_START = 180.0


@dataclass(frozen=True)
class UiOptions:
    """Browse the recorded runs: MLflow's server for a local database, and the address of the experiment's runs."""

    tracking_uri: str = RunConfig().tracking_uri
    """database, or address of a running server"""
    experiment: str = RunConfig().experiment
    """experiment that is opened"""
    host: str = "127.0.0.1"
    """address to listen at"""
    port: int = 5000
    """port to listen at"""


def main() -> int:
    options = tyro.cli(UiOptions, prog="kdltr ui", description=UiOptions.__doc__)

    # Not at the top: mlflow takes seconds, which --help and a mistyped option need not wait for.
    from mlflow import MlflowClient

    from pipelines.run.tracking import experiment_id, runs_page, with_secrets

    run = absolute(RunConfig(tracking_uri=options.tracking_uri, experiment=options.experiment))
    if not run.tracking_uri:
        raise ValueError("--tracking-uri is empty; give the database of the runs, such as sqlite:///mlflow.db")
    uri = with_secrets(run.tracking_uri)
    experiment = experiment_id(MlflowClient(uri), options.experiment, uri)
    if uri.startswith(("http://", "https://")):
        print(runs_page(run.tracking_uri, experiment))
        return 0
    address = f"http://{options.host}:{options.port}"
    server = [sys.executable, "-m", "mlflow", "server", "--backend-store-uri", uri, "--workers", "1"]
    threading.Thread(target=announce, args=(address, runs_page(address, experiment)), daemon=True).start()
    quiet = {"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    quiet["PYTHONWARNINGS"] = "ignore"
    listening = ["--host", options.host, "--port", str(options.port), "--uvicorn-opts", "--log-level=warning"]
    try:
        return subprocess.run([*server, *listening], env={**quiet, **os.environ}).returncode
    except KeyboardInterrupt:
        return 0


def announce(address: str, page: str) -> None:
    """Prints where the runs are once the server answers."""
    until = time.monotonic() + SECONDS_TO_START
    while time.monotonic() < until:
        try:
            urllib.request.urlopen(f"{address}/health", timeout=5).close()
        except OSError:
            time.sleep(0.3)
        else:
            print(f"\nRuns of kdltr: {page}\nCtrl-C ends the server.", flush=True)
            return


if __name__ == "__main__":
    sys.exit(answer_mistakes(main))
