"""A service that reads words in images, and a page to try it: python pipelines/serve.py STUDENT [--option value …]"""

from __future__ import annotations

import os
import signal
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import tyro

from kdltr_core.uri import is_uri
from pipelines.run.command_line import answer_mistakes
from pipelines.service.limits import ServiceLimits
from pipelines.service.server import open_port, run_server

TOKEN_VARIABLE = "KDLTR_TOKEN"
LOOPBACK = ("127.0.0.1", "localhost", "::1")


@dataclass(frozen=True)
class ServeOptions:
    """Read words in images that come over HTTP, with replicas that Ray Serve keeps alive; GET / is a page to try it."""

    student: Annotated[str, tyro.conf.Positional]
    """a run folder, a student's folder or file, an ONNX file that export.py wrote, or a URI of one"""
    host: str = "127.0.0.1"
    """address to listen at; 0.0.0.0: every address of this machine"""
    port: int = 8000
    """port to listen at; 0: any that is free"""
    token: str = ""
    """that requests have to show; the variable KDLTR_TOKEN gives it without other users of the machine seeing it"""
    replicas: int = 1
    """readers side by side"""
    cpus_per_replica: float = 1.0
    """of the cluster's CPUs, and threads of torch, for each replica"""
    gpus_per_replica: float = 0.0
    """of the cluster's GPUs, for each replica; 0.25: four on one"""
    max_batch: int = 32
    """images read at a time"""
    batch_wait_ms: float = 0.0
    """that an idle replica waits for more images; what comes while it reads is one batch without any waiting"""
    limits: ServiceLimits = field(default_factory=ServiceLimits)
    """what is too much"""

    def check(self) -> None:
        """Raises: ValueError naming the option."""
        self.limits.check()
        for name, least in (("replicas", 1), ("max_batch", 1), ("gpus_per_replica", 0), ("batch_wait_ms", 0)):
            if getattr(self, name) < least:
                raise ValueError(f"--{name.replace('_', '-')} is {getattr(self, name)}, expected {least} or more")
        if not self.cpus_per_replica > 0:
            raise ValueError(f"--cpus-per-replica is {self.cpus_per_replica}, expected more than 0")
        if self.gpus_per_replica and self.student.endswith(".onnx"):
            raise ValueError(f"{self.student} is read on the CPU; leave out --gpus-per-replica, or give a run")
        if not (self.token.isascii() and self.token.isprintable() and self.token == self.token.strip()):
            raise ValueError("--token has characters that a header cannot carry; give letters, digits and punctuation")


def main() -> int:
    options = tyro.cli(ServeOptions, prog="serve.py", description=ServeOptions.__doc__)
    options.check()
    listening = open_port(options.host, options.port)

    # Not at the top: ray and torch take seconds, which --help and a mistyped option need not wait for.
    from pipelines.prediction.open_reader import open_reader
    from pipelines.ray_train.cluster import connect
    from pipelines.run.progress import say
    from pipelines.service.app import Door
    from pipelines.service.replicas import ReplicaOptions, Replicas

    student = options.student if is_uri(options.student) else str(Path(options.student).expanduser().absolute())
    open_reader(student)  # what is wrong with it is said here, and not by a replica
    token = options.token or os.environ.get(TOKEN_VARIABLE, "")
    address = f"http://{options.host}:{listening.getsockname()[1]}"
    replicas = Replicas(
        connect(),
        student,
        ReplicaOptions(
            options.replicas,
            options.cpus_per_replica,
            options.gpus_per_replica,
            options.max_batch,
            options.batch_wait_ms / 1000,
        ),
        options.limits,
        name=f"kdltr-{listening.getsockname()[1]}-{os.getpid()}",
    )
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        say("starting replicas …")
        replicas.start()
        if options.host not in LOOPBACK and not token:
            say(f"WARNING: whoever reaches {options.host} can use this service. Give --token, or set {TOKEN_VARIABLE}.")
        sentence = f"reading at {address}/read, a page to try it at {address}/ ; Ctrl-C ends it"
        run_server(Door(replicas, options.limits, token).app(), listening, options.limits, lambda: say(sentence))
    except KeyboardInterrupt:
        say("ending the replicas …")
    finally:
        replicas.stop()
    return 0


if __name__ == "__main__":
    sys.exit(answer_mistakes(main))
