"""The drill: a run on two hosts from `ray up` to `ray down`, as docs/clusters.md tells it. See `make cluster-test`."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from kdltr_core.config import RunConfig
from pipelines.run.description import source_digest
from tests.cluster.hosts import Host, obstacle, two_hosts

ROOT = Path(__file__).parents[2]
STEPS = 4
# fmt: off
SMALL = [
    "--optim.batch-size", "16", "--log-every", "1", "--objective.num-permutations", "2",
    "--data.num-rendered-train", "64", "--data.num-rendered-benchmark", "16",
    "--selection-words", "16", "--harm-words", "4",
]
TRAIN = [
    "pipelines/train.py", "--", "demo", "--workers", "2", "--num-steps", str(STEPS),
    "--validate-every", "4", "--checkpoint-every", "2", *SMALL,
]
EVALUATE = [
    "pipelines/evaluate.py", "--", "runs/demo", "--data.num-rendered-benchmark", "16",
    "--data.benchmark-degradation", "interlaced", "--output-folder",
]  # fmt: skip
TUNE = [
    "pipelines/tune.py", "--", "demo", "--num-trials", "2", "--trials-at-a-time", "2", "--num-steps", "2",
    "--scheduler", "none", "--workers", "1",
    *SMALL,
]
# fmt: on

# Prints status and content of what answers at a URL.
ASK = """
import sys, urllib.error, urllib.request
url, token, body = sys.argv[1:]
headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {token}"} if token else {})
try:
    answer = urllib.request.urlopen(urllib.request.Request(url, body.encode() or None, headers), timeout=30)
except urllib.error.HTTPError as error:
    answer = error
print(answer.status, answer.read().decode())
"""


class Laptop:
    """Commands the cluster from the head's network, with a home, a token and a filled-in cluster file of its own."""

    def __init__(self, head: Host, worker: Host, shared: Path) -> None:
        home = shared / "laptop"
        (home / "tmp").mkdir(parents=True)
        self._environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
        self._environment |= {"HOME": str(home), "TMPDIR": f"{home}/tmp", "RAY_TMPDIR": f"{home}/tmp"}
        self._network = head.network
        self._ray = Path(sysconfig.get_path("scripts"), "ray")
        self.token = self._run(self._ray, "get-auth-token", "--generate", stdout=subprocess.PIPE)

        text = (ROOT / "docs" / "cluster-local.yaml").read_text().replace("/mnt/kdltr", f"{shared}/mnt")
        config = yaml.safe_load(text)
        config["cluster_name"] = shared.name
        config["provider"] |= {"head_ip": head.address, "worker_ips": [worker.address]}
        config["auth"] |= {"ssh_user": "root", "ssh_private_key": f"{shared}/key"}
        config["file_mounts"]["~/.ray/auth_token"] = f"{home}/.ray/auth_token"
        self._cluster_file = shared / "cluster.yaml"
        self._cluster_file.write_text(yaml.safe_dump(config))

    def ray(self, command: str, *words: str) -> None:
        """``ray COMMAND cluster.yaml WORDS``."""
        self._run(self._ray, command, "--log-style", "pretty", self._cluster_file, *words)

    def ask(self, url: str, body: dict[str, Any] | None = None, token: str = "") -> tuple[int, Any]:
        """Status and content of the answer to a GET, or to a POST of ``body``."""
        answer = self._run(
            sys.executable, "-c", ASK, url, token, json.dumps(body) if body else "", stdout=subprocess.PIPE
        )
        status, _, content = answer.partition(" ")
        return int(status), json.loads(content) if status == "200" else content

    def tracked_runs(self, head: Host) -> dict[str, dict[str, Any]]:
        """What MLflow on the head has, by name."""
        server = f"http://{head.address}:5000/api/2.0/mlflow"
        _, found = self.ask(f"{server}/experiments/get-by-name?experiment_name=kdltr")
        _, found = self.ask(f"{server}/runs/search", {"experiment_ids": [found["experiment"]["experiment_id"]]})
        runs = {run["info"]["run_name"]: run for run in found["runs"]}
        assert len(runs) == len(found["runs"])
        return runs

    def _run(self, *words: str | Path, stdout: int | None = None) -> str:
        command = ["nsenter", f"--net={self._network}", *words]
        done = subprocess.run(command, cwd=ROOT, env=self._environment, stdout=stdout, text=True)
        assert done.returncode == 0, f"{' '.join(map(str, words))} ended with {done.returncode}"
        return done.stdout


@pytest.fixture
def hosts() -> Iterator[tuple[Host, Host, Path]]:
    if os.geteuid():
        pytest.skip("making hosts needs root")
    if reason := obstacle():
        pytest.skip(f"no hosts can be made here: {reason}")
    with two_hosts() as (head, worker, shared):
        (shared / "mnt").mkdir()
        yield head, worker, shared
    sockets = hashlib.sha256(shared.name.encode()).hexdigest()[:10]  # where Ray's ssh keeps those of this cluster
    for folder in Path("/tmp").glob(f"ray_ssh_*/{sockets}"):
        shutil.rmtree(folder)


def accuracies(folder: Path) -> dict[str, float]:
    """Of a table.json, by reader."""
    means = json.loads((folder / "table.json").read_text())["weighted_mean"]
    return {column: mean["accuracy"] for column, mean in means.items()}


@pytest.mark.slow
@pytest.mark.cluster
def test_a_run_on_two_hosts_from_up_to_down(hosts: tuple[Host, Host, Path]) -> None:
    """One worker on each host, gradients over the cable, the run and its accuracies in MLflow on the head.

    Then the finished run is evaluated, and a sweep is made, by the same command.
    """
    head, worker, shared = hosts
    laptop = Laptop(head, worker, shared)
    version = source_digest(ROOT / wing for wing in ("kdltr_core", "tune_spaces", "pipelines"))
    laptop.ray("up", "-y")
    dashboard = "http://127.0.0.1:8265/api/version"
    assert [laptop.ask(dashboard, token=token)[0] for token in ("", laptop.token)] == [401, 200]

    before = worker.sent_bytes()
    laptop.ray("submit", *TRAIN)
    run = shared / "mnt" / "runs" / "demo"
    weights = (run / "student" / "student.safetensors").stat().st_size
    assert worker.sent_bytes() - before > STEPS * weights  # its gradients of every step, as many floats as weights
    for host in (head, worker):
        prepared = host.folder / "home" / ".cache" / "kdltr"
        assert list(prepared.rglob("*.pack")), f"the words were not prepared on {host.address}"

    (tracked,) = laptop.tracked_runs(head).values()
    assert tracked["info"]["status"] == "FINISHED"
    tags = {tag["key"]: tag["value"] for tag in tracked["data"]["tags"]}
    assert (tags["git_commit"], tags["source_sha256"]) == ("unknown", version)  # nodes have the code alone
    metrics = {metric["key"]: metric["value"] for metric in tracked["data"]["metrics"]}
    assert metrics["accuracy"] == pytest.approx(100 * accuracies(run / "evaluation")["student_low_res"])

    laptop.ray("submit", *EVALUATE, f"{shared}/mnt/report")
    assert accuracies(shared / "mnt" / "report") == accuracies(run / "evaluation")

    laptop.ray("submit", *TUNE)
    sweep = shared / "mnt" / "runs" / "demo-loss_weights"
    page = (sweep / "report" / "sweep.html").read_text()
    assert "2 trials: 2 finished" in page
    assert RunConfig.from_yaml(sweep / "best.yaml").num_steps == 2
    states = {name: run["info"]["status"] for name, run in laptop.tracked_runs(head).items()}
    assert states == {
        name: "FINISHED"
        for name in ("demo", "demo-loss_weights", "demo-loss_weights trial 0", "demo-loss_weights trial 1")
    }

    assert "raylet" in head.programs()
    laptop.ray("down", "-y")
    assert "raylet" not in head.programs()
