"""Tracker: the run as MLflow shows it, or no tracking at all. Training never waits for it and never fails by it.

Rank 0 writes the metrics log in the run folder; the driver sends what is new in it. So the metrics log is also what was
missed while the server was away, and a driver on the host of an SQLite file can serve workers on other hosts.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeVar

from mlflow import MlflowClient
from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, Param, RunTag
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import RESOURCE_DOES_NOT_EXIST, ErrorCode

from kdltr_core.files import write_text
from pipelines.run.metrics_log import read_records

Status = Literal["FINISHED", "FAILED", "KILLED"]
T = TypeVar("T")

RECORDS_A_BATCH = 50
PARAMS_A_BATCH = 100
SECONDS_BETWEEN_TRIES = 15.0
# Else MLflow opens the pages that it has for agents.
_OF_TRAININGS = {"mlflow.experimentKind": "custom_model_development"}
_LONGEST_DIGEST = 36
_LONGEST_PARAM = 6000


@dataclass(frozen=True)
class DatasetNote:
    """A data set that the run read: its name, where it lies, what it is for, its fingerprint and its counts."""

    name: str
    path: str
    context: Literal["training", "validation", "testing"]
    fingerprint: str
    counts: dict[str, int]


@dataclass(frozen=True)
class Description:
    """What is known of a run before it starts."""

    name: str
    parameters: Mapping[str, Any]
    tags: Mapping[str, str]
    datasets: Sequence[DatasetNote] = ()


@dataclass
class _State:
    """What MLflow has of this run; kept in the run folder, so that nothing is sent twice and nothing is forgotten."""

    uri: str = ""
    experiment_id: str = ""
    run_id: str = ""
    described: bool = False
    starts: int = 0
    sent: int = 0
    ended: Status | Literal[""] = ""
    description: dict[str, Any] = field(default_factory=dict)


class Tracker:
    """One training run in MLflow, from its start through every resume to its end.

    Args:
        run_folder: holds metrics.jsonl and the tracker's own tracking.json.
        uri: of a server or database; '' for none, and then every method does nothing.
        experiment: made where it does not exist, with an absolute artifact location for a local database.
        say: receives a sentence when the server goes away and when it is back.
    """

    def __init__(self, run_folder: Path, uri: str, experiment: str, say: Callable[[str], None]) -> None:
        self._folder = run_folder
        self._uri = uri
        self._experiment = experiment
        self._say = say
        self._away = False
        self._next_try = 0.0
        self._file = run_folder / "tracking.json"
        self._state = _State(**json.loads(self._file.read_text())) if self._file.exists() else _State()
        if self._state.uri != uri:
            self._state = _State(uri=uri, description=self._state.description)
        # MLflow's own patience with a server that is away is minutes a call, and its first words fill a screen.
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "15")
        os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")  # two lines for every trial that ends
        for name in ("mlflow.store.db.utils", "alembic", "urllib3.connectionpool"):
            logging.getLogger(name).setLevel(logging.ERROR)

    @property
    def run_id(self) -> str:
        return self._state.run_id

    @property
    def ended(self) -> Status | Literal[""]:
        """The state that MLflow was given at the run's end; '' before."""
        return self._state.ended

    @property
    def is_away(self) -> bool:
        """Whether MLflow did not answer the last time."""
        return self._away

    @property
    def owes(self) -> bool:
        """Whether the run has ended and MLflow does not have all of it."""
        return bool(self._uri and self._state.description and not self._state.ended)

    @property
    def where(self) -> str:
        """The line that opens the run in a browser, '' without tracking."""
        if self._uri.startswith(("http://", "https://")):
            state = self._state
            run = f"/{state.experiment_id}/runs/{state.run_id}" if state.run_id and state.experiment_id else ""
            return f"{self._uri.rstrip('/')}/#/experiments{run}?workflowType=machine_learning"
        return f"mlflow ui --backend-store-uri {self._uri}" if self._uri else ""

    def begin(self, description: Description) -> str:
        """Makes the run, or goes on in it. Returns its id, '' where MLflow cannot be reached (yet) or is not wanted."""
        self._state.description = asdict(description)
        self._state.starts += 1
        self._state.ended = ""
        self._attempt(self._open_run)
        self._save()
        return self._state.run_id

    def send(self) -> None:
        """Sends what is new in the metrics log; while the server is away, tries at times."""
        if self._uri and time.monotonic() >= self._next_try:
            self._attempt(self._send_records)

    def end(self, status: Status, artifacts: Sequence[Path] = (), tags: Mapping[str, str] | None = None) -> bool:
        """Sends the rest, the artifacts (files; folders by their name) and the state. Returns whether all is there.

        Args:
            tags: what only the end has shown.
        """
        if not self._uri:
            return True
        done = self._attempt(lambda: self._close_run(status, artifacts, tags or {}))
        if not done:
            self._say("MLflow lacks a part of this run; it is kept in the run's folder and the same command sends it")
        return bool(done)

    def _attempt(self, action: Callable[[], T]) -> T | None:
        if not self._uri:
            return None
        try:
            result = action()
        except (MlflowException, OSError) as error:
            if not self._away:
                self._say(
                    f"MLflow at {self._uri} does not take the run's figures, training goes on and {self._folder.name}/"
                    f"metrics.jsonl keeps them ({_first_sentence(error)})"
                )
            self._away = True
            self._next_try = time.monotonic() + SECONDS_BETWEEN_TRIES
            return None
        if self._away:
            self._say(f"MLflow at {self._uri} is back and has what it missed")
        self._away = False
        return result

    def _open_run(self) -> MlflowClient:
        """A client, with the run made and described if it was not."""
        client, state = MlflowClient(self._uri), self._state
        if state.run_id and not state.ended:
            try:
                client.update_run(state.run_id, status="RUNNING")
            except MlflowException as error:
                if error.error_code != ErrorCode.Name(RESOURCE_DOES_NOT_EXIST):
                    raise
                self._say(f"MLflow no longer has the run {state.run_id}; a new one is made from the metrics log")
                state.run_id, state.described, state.sent = "", False, 0
        description = state.description
        if not state.run_id:
            state.experiment_id = experiment_id(client, self._experiment, self._uri)
            state.run_id = client.create_run(state.experiment_id, run_name=description["name"]).info.run_id
            self._save()
        if not state.described:
            parameters = [Param(k, _param(v)) for k, v in description["parameters"].items()]
            for start in range(0, len(parameters), PARAMS_A_BATCH):
                client.log_batch(state.run_id, params=parameters[start : start + PARAMS_A_BATCH])
            client.log_inputs(state.run_id, [_dataset(note) for note in description["datasets"]])
            state.described = True
        tags = description["tags"] | {"resumed": str(max(state.starts - 1, 0))}
        client.log_batch(state.run_id, tags=[RunTag(k, v) for k, v in tags.items()])
        self._save()
        return client

    def _send_records(self) -> bool:
        state = self._state
        metrics_log = self._folder / "metrics.jsonl"
        client: MlflowClient | None = None
        while True:
            records, offset = read_records(metrics_log, state.sent, RECORDS_A_BATCH)
            if not records:
                return True
            if client is None:
                client = MlflowClient(self._uri) if state.described and not self._away else self._open_run()
            metrics = [
                Metric(_metric_name(name), value, record.time, record.step)
                for record in records
                for name, value in record.metrics.items()
            ]
            client.log_batch(state.run_id, metrics=metrics)
            state.sent = offset
            self._save()

    def _close_run(self, status: Status, artifacts: Sequence[Path], tags: Mapping[str, str]) -> bool:
        client = self._open_run()
        self._send_records()
        client.log_batch(self._state.run_id, tags=[RunTag(name, value) for name, value in tags.items()])
        for path in artifacts:
            if path.is_dir():
                client.log_artifacts(self._state.run_id, str(path), path.name)
            elif path.exists():
                client.log_artifact(self._state.run_id, str(path))
        client.set_terminated(self._state.run_id, status)
        self._state.ended = status
        self._save()
        return True

    def _save(self) -> None:
        if self._uri:
            write_text(self._file, json.dumps(asdict(self._state), indent=1))


def experiment_id(client: MlflowClient, experiment: str, uri: str) -> str:
    """Of the experiment of that name on the server at ``uri``, which is made where there is none."""
    found = client.get_experiment_by_name(experiment)
    if found is not None:
        return found.experiment_id
    # Where the artifacts of an experiment lie is fixed when it is made; a server has its own place.
    local = uri.startswith("sqlite:///")
    folder = Path(uri.removeprefix("sqlite:///")).parent / "mlartifacts"
    return client.create_experiment(experiment, folder.as_uri() if local else None, _OF_TRAININGS)


def _dataset(note: Mapping[str, Any]) -> DatasetInput:
    dataset = Dataset(
        name=note["name"],
        digest=note["fingerprint"][:_LONGEST_DIGEST],
        source_type="local",
        source=json.dumps({"uri": note["path"]}),
        profile=json.dumps(note["counts"]),
    )
    return DatasetInput(dataset, [InputTag("mlflow.data.context", note["context"])])


def _param(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= _LONGEST_PARAM else text[: _LONGEST_PARAM - 1] + "…"


def _metric_name(name: str) -> str:
    """The name in the characters that MLflow takes; where some are replaced, a digest keeps it distinct."""
    allowed = re.sub(r"[^\w\-. :/]", "_", name, flags=re.ASCII)
    return allowed if allowed == name else f"{allowed}-{hashlib.blake2b(name.encode(), digest_size=3).hexdigest()}"


def _first_sentence(error: Exception) -> str:
    return str(error).partition(" (Caused by")[0].partition("\n")[0][:200] or type(error).__name__
