"""A real S3-compatible server on loopback, and a bucket in it that is looked at with Amazon's own client."""

from __future__ import annotations

import functools
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3

SECONDS_TO_START = 60


@dataclass(frozen=True)
class Server:
    """A running ``moto_server``; its log has a line for every request."""

    endpoint: str
    log: Path

    def client(self, service: str) -> Any:
        return _client(self.endpoint, service)


@functools.cache
def _client(endpoint: str, service: str) -> Any:
    return boto3.client(
        service,
        endpoint_url=endpoint,
        region_name="us-east-1",
        aws_access_key_id="anyone",
        aws_secret_access_key="any secret",
    )


@contextmanager
def serve(log: Path) -> Iterator[Server]:
    """The server, on a free port, until the block is left."""
    with log.open("wb") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", "moto.server", "--host", "127.0.0.1", "--port", "0"], stdout=file, stderr=file
        )
    try:
        yield Server(_endpoint(process, log), log)
    finally:
        process.kill()
        process.wait()


def _endpoint(process: subprocess.Popen[bytes], log: Path) -> str:
    deadline = time.monotonic() + SECONDS_TO_START
    while process.poll() is None and time.monotonic() < deadline:
        if running := re.search(r"Running on (http://127\.0\.0\.1:\d+)", log.read_text()):
            return running[1]
        time.sleep(0.1)
    raise RuntimeError(f"moto_server did not start: {log.read_text()}")


@dataclass(frozen=True)
class Bucket:
    """A bucket of a server."""

    server: Server
    name: str

    @property
    def uri(self) -> str:
        return f"s3://{self.name}"

    def put(self, key: str, content: bytes) -> None:
        self.server.client("s3").put_object(Bucket=self.name, Key=key, Body=content)

    def put_tree(self, folder: Path, key: str) -> None:
        """All files under a folder."""
        for file in folder.rglob("*"):
            if file.is_file():
                self.put(f"{key}/{file.relative_to(folder).as_posix()}", file.read_bytes())

    def get(self, key: str) -> bytes:
        return self.server.client("s3").get_object(Bucket=self.name, Key=key)["Body"].read()

    def delete(self, key: str) -> None:
        self.server.client("s3").delete_object(Bucket=self.name, Key=key)

    def objects(self) -> list[str]:
        """The keys of all objects, without the empty ones that stand for folders."""
        found = self.server.client("s3").list_objects_v2(Bucket=self.name).get("Contents", [])
        return sorted(entry["Key"] for entry in found if not entry["Key"].endswith("/"))

    def num_reads(self, key: str) -> int:
        """How often some or all of an object was asked for."""
        return len(re.findall(rf'"(?:\x1b\[\d+m)*GET /{self.name}/{re.escape(key)} ', self.server.log.read_text()))
