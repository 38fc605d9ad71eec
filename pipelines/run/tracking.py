"""Tracking: the run as MLflow shows it, or no tracking at all. Training never waits for it and never fails by it.

Rank 0 writes the metrics log in the run folder; the driver sends what is new in it. So the metrics log is also what was
missed while the server was away, and a driver on the host of an SQLite file can serve workers on other hosts.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
import shlex
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from math import nan
from pathlib import Path
from typing import Any, Literal

from mlflow import MlflowClient
from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, Param, RunTag
from mlflow.exceptions import MlflowException

from kdltr_core.files import DamagedFile, read_json, write_text
from kdltr_core.remote import public
from pipelines.run.description import Description
from pipelines.run.logged_model import log_model
from pipelines.run.metrics_log import read_records

Status = Literal["FINISHED", "FAILED", "KILLED"]

RECORDS_A_BATCH = 50
PARAMS_A_BATCH = 100
# What a run came to in a word: shown at its logged model too.
HEADLINES = ("accuracy", "gain_over_enlarged")
# Single figures. MLflow draws them as bars where they are at step 0, else each as a curve of one dot.
_FINAL = re.compile(r"(accuracy|gain_over_enlarged|images_per_second)$|(harm|calibration)/")
SECONDS_BETWEEN_TRIES = 15.0
# A server may take as long as it likes, one byte at a time: after so many seconds nobody waits for it any more. The end
# of a run has artifacts to send.
SECONDS_TO_ANSWER, SECONDS_TO_END = 30.0, 300.0
# Else MLflow opens the pages that it has for agents.
_OF_TRAININGS = {"mlflow.experimentKind": "custom_model_development"}
_LONGEST_PARAM = 6000
_SETTINGS = {
    # MLflow's own patience with a server that is away is minutes a call, and its first words fill a screen.
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "15",
    "MLFLOW_HTTP_RESPECT_RETRY_AFTER_HEADER": "false",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
}


@dataclass
class _State:
    """What MLflow has of this run; kept in the run folder, so that nothing is sent twice and nothing is forgotten.

    ``place`` says whose it is: in a copy of the folder it is that of the first.
    """

    uri: str = ""
    place: str = ""
    experiment_id: str = ""
    run_id: str = ""
    described: bool = False
    starts: int = 0
    sent: int = 0
    ended: Status | Literal[""] = ""
    model_id: str = ""
    description: dict[str, Any] = field(default_factory=dict)


class Tracker:
    """One training run in MLflow, from its start through every resume to its end.

    Args:
        run_folder: holds metrics.jsonl and the tracker's own tracking.json.
        uri: of a server or database; '' for none, and then every method does nothing.
        experiment: made where it does not exist, with an absolute artifact location for a local database.
        say: receives a sentence when the server goes away and when it is back.
        place: where the run is, if that is not the folder.
    """

    def __init__(
        self, run_folder: Path, uri: str, experiment: str, say: Callable[[str], None], place: str = ""
    ) -> None:
        self._folder = run_folder
        self._uri, self._shown_uri = with_secrets(uri), public(uri)
        self._experiment = experiment
        self._say = say
        self._away = False
        self._next_try = 0.0
        self._at_work: threading.Thread | None = None
        self._file = run_folder / "tracking.json"
        self._state = self._read_state(place or str(run_folder.absolute()))
        for name, value in _SETTINGS.items():
            os.environ.setdefault(name, value)
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
            return runs_page(self._shown_uri, self._state.experiment_id, self._state.run_id)
        return f"kdltr ui --tracking-uri {shlex.quote(self._shown_uri)}" if self._uri else ""

    def begin(self, description: Description) -> str:
        """Makes the run, or goes on in it. Returns its id, '' where MLflow cannot be reached (yet) or is not wanted."""
        self._state.description = asdict(description)
        self._state.starts += 1
        self._state.ended = ""
        self._attempt(self._open_run, SECONDS_TO_ANSWER)
        self._save()
        return self._state.run_id

    def send(self) -> None:
        """Sends what is new in the metrics log; while the server is away, tries at times."""
        if time.monotonic() >= self._next_try:
            self._attempt(self._send_records, SECONDS_TO_ANSWER)

    def end(
        self,
        status: Status,
        artifacts: Sequence[Path] = (),
        tags: Mapping[str, str] | None = None,
        model: Path | None = None,
    ) -> bool:
        """Sends the rest, the artifacts (files; folders by their name) and the state. Returns whether all is there.

        Args:
            tags: what only the end has shown.
            model: the folder of the student or teacher that the run made; it becomes a logged model of that name.
        """
        if not self._uri:
            return True
        done = self._attempt(lambda: self._close_run(status, artifacts, tags or {}, model), SECONDS_TO_END)
        if not done:
            self._say("MLflow lacks a part of this run; it is kept in the run's folder and sent by the same command")
        return done

    def _attempt(self, action: Callable[[], object], seconds: float) -> bool:
        """Whether MLflow took it, in so many seconds. Whatever it raises is a sentence, once; what hangs is left."""
        if not self._uri or (self._at_work and self._at_work.is_alive()):
            return not self._uri
        errors: list[Exception] = []

        def work() -> None:
            try:
                action()
            except Exception as error:  # a store raises what its drivers raise
                errors.append(error)

        self._at_work = threading.Thread(target=work, name="mlflow", daemon=True)
        self._at_work.start()
        self._at_work.join(seconds)
        if self._at_work.is_alive():
            errors.append(TimeoutError(f"no whole answer within {seconds:.0f} s"))
        if errors and not self._away:
            said = type(errors[0]).__name__
            if self._uri == self._shown_uri:  # else the text may show the URI's secrets
                said += f": {str(errors[0]).partition(chr(10))[0][:200]}"
            self._say(
                f"MLflow at {self._shown_uri} does not take the run's figures, training continues and "
                f"{self._folder.name}/metrics.jsonl keeps them ({said}). It has to answer, to accept "
                "MLFLOW_TRACKING_USERNAME and _PASSWORD or _TOKEN, and to have the experiment "
                f"{self._experiment}, if at all, not deleted; or give another --tracking-uri or --experiment"
            )
        elif self._away and not errors:
            self._say(f"MLflow at {self._shown_uri} is back and received what it missed")
        self._away = bool(errors)
        self._next_try = time.monotonic() + SECONDS_BETWEEN_TRIES if errors else 0.0
        return not errors

    def _open_run(self) -> MlflowClient:
        """A client, with the run made and described if it was not."""
        client, state = MlflowClient(self._uri), self._state
        if not state.run_id or is_gone(client, state.run_id):
            # First, as it is refused where the experiment was deleted, which may be restored with its runs.
            experiment = experiment_id(client, self._experiment, self._uri)
            if state.run_id:
                self._say(f"MLflow no longer has the run {state.run_id}; a new one is made from the metrics log")
            run_id = client.create_run(experiment, run_name=state.description["name"]).info.run_id
            state.experiment_id, state.run_id, state.model_id = experiment, run_id, ""
            state.described, state.sent = False, 0
            self._save()
        client.update_run(state.run_id, status="RUNNING")
        if not state.described:
            parameters = [Param(k, _param(v)) for k, v in state.description["parameters"].items()]
            for start in range(0, len(parameters), PARAMS_A_BATCH):
                client.log_batch(state.run_id, params=parameters[start : start + PARAMS_A_BATCH])
            # MLflow lists metrics in the order in which it first heard of them, and keeps the latest.
            headlines = [Metric(name, nan, 0, 0) for name in state.description["headlines"]]
            client.log_batch(state.run_id, metrics=headlines)
            datasets = [
                DatasetInput(Dataset(**note), [InputTag("mlflow.data.context", context)])
                for context in ("training", "testing")
                for note in state.description[context]
            ]
            client.log_inputs(state.run_id, datasets)
            state.described = True
        tags = state.description["tags"] | {"resumed": str(max(state.starts - 1, 0))}
        client.log_batch(state.run_id, tags=[RunTag(k, v) for k, v in tags.items()])
        self._save()
        return client

    def _send_records(self) -> None:
        state = self._state
        # Opened anew after a failure, with nothing to send too: only an answer shows that it is back.
        client = self._open_run() if self._away else None
        while True:
            records, offset = read_records(self._folder / "metrics.jsonl", state.sent, RECORDS_A_BATCH)
            if not records:
                return
            client = client or (MlflowClient(self._uri) if state.described else self._open_run())
            metrics = [
                Metric(_metric_name(name), value, record.time, 0 if _FINAL.match(name) else record.step)
                for record in records
                for name, value in record.metrics.items()
            ]
            client.log_batch(state.run_id, metrics=metrics)
            state.sent = offset
            self._save()

    def _close_run(
        self, status: Status, artifacts: Sequence[Path], tags: Mapping[str, str], model: Path | None
    ) -> None:
        client = self._open_run()
        self._send_records()
        client.log_batch(self._state.run_id, tags=[RunTag(name, value) for name, value in tags.items()])
        for path in artifacts:
            if path.is_dir():
                client.log_artifacts(self._state.run_id, str(path), path.name)
            elif path.exists():
                client.log_artifact(self._state.run_id, str(path))
        if model is not None and model.exists() and not self._state.model_id:
            self._log_model(client, model)
        client.set_terminated(self._state.run_id, status)
        self._state.ended = status
        self._save()

    def _log_model(self, client: MlflowClient, model: Path) -> None:
        """With the run's headlines, which the list of models shows."""
        state = self._state
        state.model_id = log_model(client, model, state.experiment_id, state.run_id, model.name)
        self._save()
        for name in HEADLINES:
            for last in client.get_metric_history(state.run_id, name)[-1:]:
                client.log_metric(state.run_id, name, last.value, last.timestamp, last.step, model_id=state.model_id)

    def _read_state(self, place: str) -> _State:
        """Of this run at this URI; a folder that was copied, or moved, has a run of its own to make."""
        now = _State(uri=self._shown_uri, place=place)
        try:
            state = read_json(self._file, _State, "MLflow is given the run anew")
        except FileNotFoundError:
            return now
        except (OSError, DamagedFile) as error:
            self._say(str(error))
            return now
        if (state.uri, state.place) == (now.uri, place):
            return state
        now.description = state.description
        return now

    def _save(self) -> None:
        with suppress(OSError):  # a full disk costs no training; what is not known to be sent is sent again
            if self._uri:
                write_text(self._file, json.dumps(asdict(self._state), indent=1))


def runs_page(address: str, experiment_id: str, run_id: str = "") -> str:
    """Of a run or, without one, of the experiment's trainings: MLflow itself would open its pages for agents."""
    runs = f"/{experiment_id}/runs{f'/{run_id}' if run_id else ''}" if experiment_id else ""
    return f"{address.rstrip('/')}/#/experiments{runs}?workflowType=machine_learning"


def with_secrets(uri: str) -> str:
    """The URI that MLFLOW_TRACKING_URI has, user and query included, where this is the same without them."""
    given = os.environ.get("MLFLOW_TRACKING_URI", "")
    return given if given and public(given) == uri else uri


def experiment_id(client: MlflowClient, experiment: str, uri: str) -> str:
    """Of the experiment of that name on the server at ``uri``, which is made where there is none."""
    if (found := client.get_experiment_by_name(experiment)) is not None:
        return found.experiment_id
    # Where the artifacts of an experiment lie is fixed when it is made; a server has its own place.
    database = Path(uri.removeprefix("sqlite:///"))
    artifacts = (database.parent / "mlartifacts").as_uri() if uri.startswith("sqlite:///") else None
    return client.create_experiment(experiment, artifacts, _OF_TRAININGS)


def is_gone(client: MlflowClient, run_id: str) -> bool:
    """Whether the server does not know the run, or has it among what was deleted."""
    try:
        return client.get_run(run_id).info.lifecycle_stage == "deleted"
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        return True


def _param(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= _LONGEST_PARAM else text[: _LONGEST_PARAM - 1] + "…"


def _metric_name(name: str) -> str:
    """The name in the characters that MLflow takes; where some are replaced, a digest keeps it distinct."""
    allowed = re.sub(r"[^\w\-. :/]", "_", name, flags=re.ASCII)
    return allowed if allowed == name else f"{allowed}-{hashlib.blake2b(name.encode(), digest_size=3).hexdigest()}"
