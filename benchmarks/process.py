"""A reading service as a process of its own, from its start to its end."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from pipelines.run.command_line import RunStopped

SECONDS_TO_START = 240.0
SECONDS_TO_END = 60.0
_READY = re.compile(r"reading at (http://\S+)/read,")


@contextmanager
def service_process(words: Sequence[str], environment: Mapping[str, str] | None = None) -> Iterator[str]:
    """``serve.py`` with these words and a free port, ended by Ctrl-C's signal.

    Args:
        words: of its command line, without a port.
        environment: the process's; None: this one's.

    Returns: its address, once it reads.
    Raises: RunStopped with what it said if it does not come to read.
    """
    command = [sys.executable, str(Path(__file__).parents[1] / "pipelines" / "serve.py"), *words, "--port", "0"]
    with tempfile.NamedTemporaryFile("w+", prefix="kdltr-serve-", suffix=".log") as log:
        service = subprocess.Popen(command, stderr=log, stdout=log, env=environment, start_new_session=True)
        try:
            yield _address(service, Path(log.name))
        finally:
            service.send_signal(signal.SIGINT)
            try:
                service.wait(SECONDS_TO_END)
            except subprocess.TimeoutExpired:
                service.kill()
                service.wait()


def _address(service: subprocess.Popen, log: Path) -> str:
    until = time.monotonic() + SECONDS_TO_START
    while time.monotonic() < until:
        said = log.read_text()
        if match := _READY.search(said):
            return match[1]
        if service.poll() is not None:
            raise RunStopped(f"the service ended before it read: {said.strip()}")
        time.sleep(0.2)
    raise RunStopped(f"the service does not read after {SECONDS_TO_START:.0f} s: {log.read_text().strip()}")
