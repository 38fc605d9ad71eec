"""A service that reads words in images, and a page to try it: python pipelines/serve.py STUDENT [--option value …]"""

from __future__ import annotations

import os
import signal
import socket
import sys

import tyro

from kdltr_core.inference.pretrained import in_whole
from pipelines.run.command_line import answer_mistakes
from pipelines.service.options import ServeOptions

TOKEN_VARIABLE = "KDLTR_TOKEN"
LOOPBACK = ("127.0.0.1", "localhost", "::1")


def main() -> int:
    options = tyro.cli(ServeOptions, description=ServeOptions.__doc__)
    options.check()
    listening = open_port(options.host, options.port)

    # Not at the top: ray and torch take seconds, which --help and a mistyped option need not wait for.
    from pipelines.prediction.open_reader import open_reader
    from pipelines.ray_train.cluster import connect
    from pipelines.run.progress import say
    from pipelines.service.app import Server, build_app
    from pipelines.service.replicas import Replicas

    student = in_whole(options.student)
    # What is wrong with it is said here, and not by a replica.
    open_reader(student, teacher=options.teacher)
    token = options.token or os.environ.get(TOKEN_VARIABLE, "")
    port = listening.getsockname()[1]
    address = f"http://{options.host}:{port}"
    replicas = Replicas(connect(), student, options, name=f"kdltr-{port}-{os.getpid()}")
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        say("starting replicas …")
        replicas.start()
        if options.host not in LOOPBACK and not token:
            say(f"WARNING: anyone who reaches {options.host} can use this service; give --token or {TOKEN_VARIABLE}")
        greeting = f"reading at {address}/read, a page to try it at {address}/ ; Ctrl-C ends it"
        Server(build_app(replicas, options.limits, token, detects=options.detect), greeting).run(sockets=[listening])
    except KeyboardInterrupt:
        say("ending the replicas …")
    finally:
        replicas.stop()
    return 0


def open_port(host: str, port: int) -> socket.socket:
    """A listening socket; port 0 is any free one. Raises: ValueError if it cannot be had."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=1024)
    except (OSError, OverflowError) as error:
        raise ValueError(
            f"port {port} of {host} cannot be opened ({error}); give another --port (0: any that is free) or --host"
        ) from error


if __name__ == "__main__":
    sys.exit(answer_mistakes(main))
