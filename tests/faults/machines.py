"""A Ray cluster of several nodes on this machine, each with its own processes, and ways to lose them."""

from __future__ import annotations

import ctypes
import os
import re
import secrets
import shutil
import signal
import subprocess
import sys
import sysconfig
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from types import TracebackType

import psutil

RAY = Path(sysconfig.get_path("scripts"), "ray")
SECONDS_TO_START = 180.0
SECONDS_OF_NOTICE = 20
PR_SET_PDEATHSIG = 1  # linux/prctl.h


class Machines:
    """A head without CPUs, and nodes of one CPU; ``ray start --block`` is what a service manager would run on each.

    Its token, its folder and its ports are its own: other clusters of this machine are not touched.
    """

    def __init__(self) -> None:
        # Not under pytest's folder: the path of a Unix socket has at most 107 characters.
        self._folder = Path(tempfile.mkdtemp(prefix="ray-"))
        self.environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")} | {
            "RAY_TMPDIR": str(self._folder),
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN": secrets.token_hex(32),
            "RAY_USAGE_STATS_ENABLED": "0",
            "RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S": str(SECONDS_OF_NOTICE),
            "OMP_NUM_THREADS": "1",
        }
        self._nodes: list[psutil.Popen] = []
        self._silent: list[psutil.Popen] = []
        self._num_started = 0

    def __enter__(self) -> Machines:
        try:
            self._head, said = self._start("head", "--head", "--port=0", "--num-cpus=0", "--include-dashboard=false")
            found = re.search(r"--address='([^']+)'", said)
            assert found, said
            self.environment["RAY_ADDRESS"] = found[1]
            self.have(2)
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for node in [*self._nodes, *self._silent, *([self._head] if hasattr(self, "_head") else [])]:
            _kill(node)
        shutil.rmtree(self._folder, ignore_errors=True)

    @property
    def nodes(self) -> list[psutil.Popen]:
        """The main processes of the nodes that are up, the oldest first; the head is none of them."""
        return [node for node in self._nodes if node.poll() is None]

    def have(self, number: int) -> None:
        """Add nodes until there are so many."""
        while len(self.nodes) < number:
            self._add()

    def have_a_blind_one(self, folder: Path) -> psutil.Popen:
        """Add a node in whose eyes this folder is empty. It needs root."""
        self._add("unshare", "--mount", "sh", "-c", 'mount -t tmpfs tmpfs "$0" && exec "$@"', str(folder))
        return self._nodes[-1]

    def workers(self) -> list[psutil.Process]:
        """The processes that train, in the order of their nodes."""
        children = [child for node in self.nodes for child in node.children(recursive=True)]
        return [child for child in children if _title(child).startswith("ray::RayTrainWorker")]

    def node_of(self, worker: psutil.Process) -> psutil.Popen:
        return next(node for node in self.nodes if worker in node.children(recursive=True))

    def cut_the_power(self, node: psutil.Popen) -> None:
        """All processes of a node are gone at once, and their connections with them."""
        _kill(node)

    def wait_until_missed(self) -> None:
        """Ray counts a machine that lost its power for some seconds more."""
        program = "import ray; ray.init(log_to_driver=False); print(sum(node['Alive'] for node in ray.nodes()))"
        until, counted = time.monotonic() + SECONDS_TO_START, ""
        while counted != str(1 + len(self.nodes)):  # the head is one of them
            assert time.monotonic() < until, f"Ray still counts {counted} machines"
            count = [sys.executable, "-c", program]
            counted = subprocess.run(count, env=self.environment, capture_output=True, text=True).stdout.strip()

    def silence(self, node: psutil.Popen) -> None:
        """A node answers nobody any more, as if its cable were pulled: no connection is closed, nothing is refused."""
        _suspend(node)
        self._nodes.remove(node)
        self._silent.append(node)

    def give_notice(self, node: psutil.Popen) -> None:
        """What a node is told before it is taken away."""
        os.kill(node.pid, signal.SIGTERM)

    def _add(self, *before: str) -> None:
        self._num_started += 1
        address = f"--address={self.environment['RAY_ADDRESS']}"
        self._nodes.append(self._start(f"node-{self._num_started}", address, "--num-cpus=1", before=before)[0])

    def _start(self, name: str, *options: str, before: tuple[str, ...] = ()) -> tuple[psutil.Popen, str]:
        log = self._folder / f"{name}.log"
        common = ("--num-gpus=0", f"--object-store-memory={80 * 2**20}", "--min-worker-port=0", "--max-worker-port=0")
        with log.open("wb") as output:
            node = psutil.Popen(
                [*before, RAY, "start", "--block", *options, *common],
                env=self.environment,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=_end_with_parent,
            )
        until = time.monotonic() + SECONDS_TO_START
        while "runtime started" not in log.read_text():
            if node.poll() is not None or time.monotonic() > until:
                _kill(node)
                raise AssertionError(f"ray start {' '.join(options)}:\n{log.read_text()}")
            time.sleep(0.2)
        return node, log.read_text()


def _end_with_parent() -> None:
    """Should the tests be killed, so is ``ray start``, and its reaper then ends what it started."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def _family(process: psutil.Popen) -> list[psutil.Process]:
    """The process and all that it started."""
    try:
        return [process, *process.children(recursive=True)]
    except psutil.NoSuchProcess:
        return [process]


def _suspend(process: psutil.Popen) -> list[psutil.Process]:
    family = _family(process)
    for member in family:
        with suppress(psutil.NoSuchProcess):
            member.suspend()
    return family


def _kill(process: psutil.Popen) -> None:
    """Nobody of the family sees another one die."""
    family = _suspend(process)
    for member in family:
        with suppress(psutil.NoSuchProcess):
            member.kill()
    psutil.wait_procs(family, timeout=30)


def _title(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.NoSuchProcess:
        return ""
