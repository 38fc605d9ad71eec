"""The files that `ray up` is given: what Ray, a shell and EC2 make of them."""

from __future__ import annotations

import os
import shutil
import subprocess
import threading
import tomllib
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import boto3
import psutil
import pytest
import yaml
from ray.autoscaler._private.commands import _bootstrap_config, _get_node_provider
from ray.autoscaler._private.util import prepare_config, validate_config

from tests.object_store import Server
from tests.pipelines.test_train import wait_until

ROOT = Path(__file__).parents[2]
CLOUD, LOCAL = "cluster.yaml", "docs/cluster-local.yaml"
COMMANDS = ("setup_commands", "head_setup_commands", "head_start_ray_commands", "worker_start_ray_commands")

both_files = pytest.mark.parametrize("file", [CLOUD, LOCAL])


def read(file: str) -> dict[str, Any]:
    return yaml.safe_load((ROOT / file).read_text(encoding="utf-8"))


def prepared(file: str) -> dict[str, Any]:
    """As Ray completes it before anything else."""
    config = prepare_config(read(file))
    validate_config(config)
    return config


def commands(file: str) -> list[str]:
    config = read(file)
    return [command for name in COMMANDS for command in config.get(name, [])]


def ray_start(file: str, kind: str) -> str:
    (command,) = (command for command in read(file)[f"{kind}_start_ray_commands"] if "ray start" in command)
    return command


@both_files
def test_ray_accepts_it(file: str) -> None:
    prepared(file)


@both_files
def test_every_command_is_bash(file: str) -> None:
    for command in commands(file):
        checked = subprocess.run(["bash", "-n"], input=f"({command})", text=True, capture_output=True)
        assert checked.stderr == "", command


@both_files
@pytest.mark.parametrize("kind", ["head", "worker"])
def test_every_node_starts_ray_with_the_token(file: str, kind: str) -> None:
    """The file is mounted, and the mode is exported in the very shell that starts Ray."""
    assert "~/.ray/auth_token" in read(file)["file_mounts"]
    script = f"ray() {{ test $1 != start || env; }}\nulimit() {{ :; }}\n{ray_start(file, kind)}"
    shell = subprocess.run(["bash", "-c", script], env={"PATH": "/usr/bin:/bin"}, capture_output=True, text=True)
    assert "RAY_AUTH_MODE=token" in shell.stdout.splitlines()


@both_files
def test_what_is_mounted_is_there_and_is_all_that_an_installation_takes(file: str) -> None:
    mounts = {there: here for there, here in read(file)["file_mounts"].items() if there.startswith("~/kdltr/")}
    for there, here in mounts.items():
        assert there == f"~/kdltr/{here}"
        assert (ROOT / here).exists()
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    packages = {pattern.removesuffix("*") for pattern in project["tool"]["setuptools"]["packages"]["find"]["include"]}
    files = {project["project"]["readme"], *project["project"]["license-files"], "pyproject.toml", "constraints.txt"}
    assert set(mounts.values()) == packages | files


@both_files
def test_a_login_shell_finds_the_python_of_the_project_first(file: str, tmp_path: Path) -> None:
    """Also when the commands have run twice, and the shell's own file has put another first."""
    (tmp_path / ".ray").mkdir()
    (tmp_path / ".ray" / "auth_token").write_text("token")
    for name in ("kdltr-env", "another"):
        (tmp_path / name / "bin").mkdir(parents=True)
        (tmp_path / name / "bin" / "python").write_text(f"#!/bin/sh\necho {name}")
        (tmp_path / name / "bin" / "python").chmod(0o755)
    (tmp_path / ".bashrc").write_text('export PATH="$HOME/another/bin:$PATH"\n')
    environment = {"HOME": str(tmp_path), "PATH": "/usr/bin:/bin"}
    (command,) = (command for command in read(file)["setup_commands"] if ".bashrc" in command)
    for _ in range(2):
        subprocess.run(["bash", "-c", command], env=environment, check=True)
    assert (tmp_path / ".bashrc").read_text().count("kdltr") == 1
    assert (tmp_path / ".ray" / "auth_token").stat().st_mode & 0o077 == 0
    login = ["bash", "--login", "-c", "source ~/.bashrc; python; echo $RAY_AUTH_MODE"]  # as Ray calls it
    shell = subprocess.run(login, env=environment, capture_output=True, text=True)
    assert shell.stdout.split() == ["kdltr-env", "token"]


class Metadata(BaseHTTPRequestHandler):
    """The service that tells a machine of EC2 about itself: only who fetched a key is answered, at first with no."""

    asked = 0

    def do_PUT(self) -> None:
        self.answer(200, "key" if self.path == "/latest/api/token" else "")

    def do_GET(self) -> None:
        assert self.path == "/latest/meta-data/spot/instance-action"
        knows = self.headers["X-aws-ec2-metadata-token"] == "key"
        type(self).asked += knows
        self.answer(200 if knows and self.asked > 2 else 404, '{"action": "terminate"}')

    def answer(self, status: int, text: str) -> None:
        self.send_response(status)
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, *args: object) -> None:
        pass


@pytest.mark.skipif(shutil.which("curl") is None, reason="the images of EC2 have curl, this machine has not")
def test_ray_is_told_when_a_spot_machine_is_about_to_be_taken_back(tmp_path: Path) -> None:
    """Once, and not before; a second start leaves one watcher."""
    (command,) = (command for command in read(CLOUD)["worker_start_ray_commands"] if "spot" in command)
    fast = 'ray() { echo "$@" >> ~/told; }; sleep() { command sleep 0.1; }; export -f ray sleep;'
    with ThreadingHTTPServer(("127.0.0.1", 0), Metadata) as service:
        threading.Thread(target=service.serve_forever, daemon=True).start()
        environment = {"HOME": str(tmp_path), "PATH": os.environ["PATH"], "RAY_HEAD_IP": "10.0.0.1"}
        environment["AWS_EC2_METADATA_SERVICE_ENDPOINT"] = "http://127.0.0.1:9"  # where nobody answers
        subprocess.run(["bash", "-c", fast + command], env=environment, check=True)
        wait_until(lambda: (tmp_path / "notice.pid").exists() and bool((tmp_path / "notice.pid").read_text()))
        first = int((tmp_path / "notice.pid").read_text())
        environment["AWS_EC2_METADATA_SERVICE_ENDPOINT"] = f"http://127.0.0.1:{service.server_port}"
        subprocess.run(["bash", "-c", fast + command], env=environment, check=True)
        wait_until(lambda: (tmp_path / "told").exists())
        service.shutdown()
    wait_until(lambda: not psutil.pid_exists(first))
    assert Metadata.asked == 3
    assert (tmp_path / "told").read_text() == (
        "drain-node --address=10.0.0.1:6379 --reason=DRAIN_NODE_REASON_PREEMPTION --reason-message=spot "
        "--deadline-remaining-seconds=110\n"
    )


def test_workers_of_the_cloud_are_spot_and_as_many_as_the_cluster_takes() -> None:
    config = prepared(CLOUD)
    head, worker = (config["available_node_types"][name] for name in ("head", "gpu_worker"))
    assert (head["min_workers"], head["max_workers"]) == (0, 0)
    assert 0 == worker["min_workers"] < worker["max_workers"] == config["max_workers"]
    assert worker["node_config"]["InstanceMarketOptions"] == {"MarketType": "spot"}
    assert "InstanceMarketOptions" not in head["node_config"]


def test_all_machines_that_are_there_become_workers() -> None:
    config = prepared(LOCAL)
    (machines,) = config["available_node_types"].values()
    num_machines = len(config["provider"]["worker_ips"])
    assert (machines["min_workers"], machines["max_workers"], config["max_workers"]) == (num_machines,) * 3
    assert "RAY_enable_autoscaler_v2=0" in ray_start(LOCAL, "head")  # it would leave one of them out


@pytest.mark.slow
def test_ec2_makes_a_head_and_a_spot_worker_of_it(
    object_store_server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Launched by Ray's own code from the file; EC2 is moto's server here."""
    monkeypatch.setenv("HOME", str(tmp_path))  # Ray keeps a key there
    monkeypatch.setenv("AWS_ENDPOINT_URL", object_store_server.endpoint)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "anyone")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "any secret")
    region = read(CLOUD)["provider"]["region"]
    object_store_server.client("iam").create_instance_profile(InstanceProfileName="kdltr")
    ec2 = boto3.client("ec2", region)
    image = ec2.describe_images()["Images"][0]["ImageId"]
    config = yaml.safe_load((ROOT / CLOUD).read_text(encoding="utf-8").replace("ami-FILL_IN", image))
    config = _bootstrap_config(config, no_config_cache=True)
    provider = _get_node_provider(config["provider"], config["cluster_name"])
    for name in ("head", "gpu_worker"):
        kind = {"ray-node-type": name, "ray-node-name": name, "ray-launch-config": "", "ray-user-node-type": name}
        provider.create_node(config["available_node_types"][name]["node_config"], kind, 1)
    assert config["available_node_types"]["gpu_worker"]["resources"]["GPU"] == 1
    launched = [i for group in ec2.describe_instances()["Reservations"] for i in group["Instances"]]
    assert sorted((i.get("InstanceLifecycle", "on demand"), i["Placement"]["AvailabilityZone"]) for i in launched) == [
        ("on demand", config["provider"]["availability_zone"]),
        ("spot", config["provider"]["availability_zone"]),
    ]
