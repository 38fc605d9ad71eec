"""What tests of several rooms need."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from unittest.mock import patch

import pytest

from pipelines.run.command_line import answer_mistakes
from tests.object_store import Bucket, Server, serve

Command = Callable[..., tuple[int, str, str]]

# Before torch is loaded. Several processes share the cores; and with two threads the backward pass of the tests' narrow
# CNNs, on an odd number of images, spoils memory in torch 2.13's CPU kernels. Those of real width do not.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# A shell lets what it starts in the background ignore Ctrl-C, and so would the commands that tests interrupt.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 256 KiB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", disk], capture_output=True).returncode:
        pytest.skip("mounting a small file system needs root")
    yield disk
    subprocess.run(["umount", disk], check=True)


@pytest.fixture(scope="session")
def student(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run's folder with a student that reads clean print."""
    from tests.service import make_student  # torch takes seconds, which other tests need not wait for

    return make_student(tmp_path_factory.mktemp("run"))


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """Runs a command's main with arguments; gives exit code, stdout and stderr."""

    def run(main: Callable[[], int], *arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["command", *map(str, arguments)])
        with patch.dict(os.environ):  # what a command sets there, MLflow's address for one, ends with its process
            code = answer_mistakes(main)
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tracking database without a run, to be copied: the first use of a new one takes MLflow seconds."""
    from mlflow import MlflowClient

    path = tmp_path_factory.mktemp("mlflow") / "empty.db"
    MlflowClient(f"sqlite:///{path}").search_experiments()
    return path


@pytest.fixture(scope="session")
def object_store_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serve(tmp_path_factory.mktemp("object-store") / "requests.log") as server:
        yield server


@pytest.fixture
def bucket(object_store_server: Server, monkeypatch: pytest.MonkeyPatch) -> Bucket:
    """An empty bucket, which a plain ``s3://`` URI finds in this process and in those that it starts."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", object_store_server.endpoint)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "anyone")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "any secret")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    name = f"bucket-{uuid.uuid4().hex[:12]}"
    object_store_server.client("s3").create_bucket(Bucket=name)
    return Bucket(object_store_server, name)
