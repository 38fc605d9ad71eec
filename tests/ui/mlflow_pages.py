"""A sweep on MLflow's pages, in a headless Chromium: python tests/ui/mlflow_pages.py TRACKING_URI FOLDER [SWEEP]

Writes mlflow-sweep.png, the page of the sweep's own run, and mlflow-compare.png, its best trials side by side, and
fails where an accuracy that was recorded is not on them. Without a name it is the newest sweep.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mlflow import MlflowClient
from mlflow.entities import Run
from playwright.sync_api import Page, sync_playwright

EXPERIMENT = "kdltr"
ACCURACY = "validation/word_accuracy"
OF_SWEEP = ("sweep/best_word_accuracy", "sweep/baseline_word_accuracy")
MOST_COMPARED = 6
# The page lists so many children until it is asked for more.
LISTED_AT_FIRST = 10
ARGUMENTS = (
    "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update", "--no-first-run",
)  # fmt: skip
SECONDS_TO_START, SECONDS_TO_LOAD = 180, 120
# MLflow opens its pages for agents unless it is asked for those of trainings.
VIEW = "workflowType=machine_learning"


def picture_sweep(tracking_uri: str, folder: Path, name: str = "") -> None:
    """Both pictures. Raises: ValueError if there is no such sweep; AssertionError if an accuracy is not to be seen."""
    folder.mkdir(parents=True, exist_ok=True)
    with server_of(tracking_uri) as address:
        parent, trials = sweep_runs(MlflowClient(address), name)
        at = f"{address}/#"
        experiment = parent.info.experiment_id
        with chromium_page() as page:
            page.goto(f"{at}/experiments/{experiment}/runs/{parent.info.run_id}?{VIEW}")
            text = take(page, OF_SWEEP[0], folder / "mlflow-sweep.png")
            for metric in OF_SWEEP:
                assert is_shown(text, metric, [parent.data.metrics[metric]]), f"{metric} is not on the sweep's page"
            children = children_of(MlflowClient(address), parent)
            listed = [run for run in children if str(run.info.run_name) in text]
            assert len(listed) >= min(len(children), LISTED_AT_FIRST), f"{len(listed)} of {len(children)} are listed"

            compared = json.dumps([run.info.run_id for run in trials])
            page.goto(f"{at}/compare-runs?runs={compared}&experiments={json.dumps([experiment])}&{VIEW}")
            page.get_by_label("Parameters - Show diff only").click(timeout=1000 * SECONDS_TO_LOAD)
            text = take(page, ACCURACY, folder / "mlflow-compare.png")
            accuracies = [run.data.metrics[ACCURACY] for run in trials]
            assert is_shown(text, ACCURACY, accuracies), f"{ACCURACY} {accuracies} are not on the page that compares"


def sweep_runs(client: MlflowClient, name: str = "") -> tuple[Run, list[Run]]:
    """The sweep's own run, and those of its trials that ran to their end or were pruned, best first."""
    experiment = client.get_experiment_by_name(EXPERIMENT)
    found = client.search_runs([experiment.experiment_id], "tags.`sweep.role` = 'sweep'") if experiment else []
    parents = [run for run in found if name in ("", run.info.run_name)]
    if experiment is None or not parents:
        raise ValueError(f"there is no sweep {name!r} in the experiment {EXPERIMENT}")
    trials = [run for run in children_of(client, parents[0]) if run.data.tags["sweep.role"] == "trial"]
    trials = [run for run in trials if run.info.status == "FINISHED" and ACCURACY in run.data.metrics]
    return parents[0], sorted(trials, key=lambda run: -run.data.metrics[ACCURACY])[:MOST_COMPARED]


def children_of(client: MlflowClient, parent: Run) -> list[Run]:
    """The runs of trials and confirmation."""
    return list(client.search_runs([parent.info.experiment_id], f"tags.`mlflow.parentRunId` = '{parent.info.run_id}'"))


def is_shown(text: str, name: str, values: list[float]) -> bool:
    """Whether the values, as far as a page writes them out, are in a row among the figures right behind the name.

    Other metrics' figures may stand between: a table may name all its rows first.
    """
    for mention in re.finditer(re.escape(name), text):
        figures = []
        for word in text[mention.end() :].split():
            if not re.fullmatch(r"-?\d+(\.\d+)?(e-?\d+)?", word):
                break
            figures.append(float(word))
        rows = [figures[start : start + len(values)] for start in range(len(figures) - len(values) + 1)]
        if any(all(abs(a - b) < 0.1 for a, b in zip(row, values, strict=True)) for row in rows):
            return True
    return False


def take(page: Page, awaited: str, picture: Path) -> str:
    """The text of the page once ``awaited`` is on it and nothing moves any more, and its picture."""
    page.get_by_text(awaited).first.wait_for(timeout=1000 * SECONDS_TO_LOAD)
    panel = page.locator("[data-component-id='mlflow.assistant.chat_panel.close']")
    if panel.count():
        panel.click()
    text = ""
    for _ in range(SECONDS_TO_LOAD):
        page.wait_for_timeout(1000)
        earlier, text = text, page.inner_text("body")
        if text == earlier:
            break
    page.screenshot(path=picture)
    return text


@contextmanager
def chromium_page() -> Iterator[Page]:
    """A page that asks nothing of other machines."""
    executable = shutil.which("chromium")
    if executable is None:
        raise ValueError("there is no chromium here; Debian's package is called so")
    with sync_playwright() as started:
        chromium = started.chromium.launch(executable_path=executable, args=list(ARGUMENTS))
        page = chromium.new_page(viewport={"width": 1500, "height": 1400})
        own = ("http://127.0.0.1", "http://localhost", "data:", "blob:")
        page.route("**/*", lambda r: r.continue_() if r.request.url.startswith(own) else r.abort())
        yield page
        chromium.close()


@contextmanager
def server_of(tracking_uri: str) -> Iterator[str]:
    """The address of a server for a database, which ends with the block; that of a server as it is."""
    if tracking_uri.startswith("http"):
        yield tracking_uri.rstrip("/")
        return
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    quiet = {"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    with tempfile.TemporaryDirectory() as scratch, (Path(scratch) / "log").open("w+") as log:
        server = subprocess.Popen(
            [*command, "--backend-store-uri", tracking_uri],
            cwd=scratch, env={**os.environ, **quiet}, stdout=log, stderr=log, start_new_session=True,
        )  # fmt: skip
        try:
            address = f"http://127.0.0.1:{port}"
            wait_for_health(address, server, Path(scratch) / "log")
            yield address
        finally:
            os.killpg(server.pid, 15)
            server.wait(timeout=60)


def wait_for_health(address: str, server: subprocess.Popen[bytes], log: Path) -> None:
    until = time.monotonic() + SECONDS_TO_START
    while server.poll() is None and time.monotonic() < until:
        try:
            urllib.request.urlopen(f"{address}/health", timeout=5).close()
            return
        except OSError:
            time.sleep(0.5)
    raise RuntimeError(f"MLflow's server does not answer: {log.read_text()[-2000:]}")


if __name__ == "__main__":
    if len(sys.argv) not in (3, 4):
        sys.exit(__doc__)
    picture_sweep(sys.argv[1], Path(sys.argv[2]), *sys.argv[3:])
