"""What a reading service bears, with batches and one image at a time.  python -m benchmarks.load STUDENT"""

from __future__ import annotations

import asyncio
import io
import itertools
import os
import platform
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import aiohttp
import numpy as np
import tyro
from PIL import Image

from benchmarks.speed_table import tell
from kdltr_core.data.synth.fonts import fonts
from kdltr_core.data.synth.render import render_word
from pipelines.run.command_line import RunStopped, answer_mistakes
from pipelines.run.progress import progress_bar, say

PERCENTILES = (50, 95, 99)
SECONDS_FOR_ONE = 120
SECONDS_TO_START = 240.0
SECONDS_TO_END = 60.0
_READY = re.compile(r"reading at (http://\S+)/read,")


@dataclass(frozen=True)
class LoadOptions:
    """Two services with the same student, the second with --max-batch 1, asked interleaved by several clients."""

    student: Annotated[str, tyro.conf.Positional]
    """as for serve.py"""
    clients: tuple[int, ...] = (1, 8, 64)
    """clients at a time; each sends one image, and the next when it is answered"""
    seconds: float = 10.0
    """of one round of one number of clients and one service"""
    rounds: int = 3
    """of all, interleaved"""
    replicas: int = 1
    """of each service"""
    max_batch: int = 32
    """images that the first service reads at a time"""
    num_images: int = 200
    """different rendered words to send"""
    output: Path = Path("runs/load_test")
    """folder for load_test.json and load_test.md"""


@dataclass(frozen=True)
class Load:
    """What so many clients saw of a service.

    Attributes:
        clients: each asks anew as soon as it is answered.
        latencies: (N,) seconds of every request that was answered with a word.
        num_failed: requests that were not.
        seconds: from the first request to the last answer.
    """

    clients: int
    latencies: np.ndarray
    num_failed: int
    seconds: float

    @classmethod
    def joined(cls, rounds: Sequence[Load]) -> Load:
        """Several rounds of one kind as one."""
        latencies = np.concatenate([load.latencies for load in rounds])
        num_failed, seconds = sum(load.num_failed for load in rounds), sum(load.seconds for load in rounds)
        return cls(rounds[0].clients, latencies, num_failed, seconds)

    def figures(self) -> dict[str, float]:
        """Rate, failures, and percentiles of the latency in ms."""
        times = (1000 * np.percentile(self.latencies, PERCENTILES)).tolist()
        named = {f"p{percent}_ms": time for percent, time in zip(PERCENTILES, times, strict=True)}
        rate = len(self.latencies) / self.seconds
        return {"clients": self.clients, "requests_per_second": rate, "num_failed": self.num_failed, **named}


def main() -> int:
    options = tyro.cli(LoadOptions, prog="python -m benchmarks.load", description=LoadOptions.__doc__)
    numbers = (options.seconds, options.rounds, options.replicas, options.max_batch, options.num_images)
    if not options.clients or min(*numbers, *options.clients) <= 0:
        raise ValueError("give a number of clients; all numbers must be more than 0")
    images = rendered_words(options.num_images)
    with ExitStack() as running:
        services = {}
        for name, max_batch in (("batches", options.max_batch), ("one at a time", 1)):
            say(f"starting the service that reads {name}")
            words = [options.student, "--replicas", str(options.replicas), "--max-batch", str(max_batch)]
            services[name] = running.enter_context(service_process(words))
        about = {"cpus": os.cpu_count(), "load_before": os.getloadavg()[0], "python": platform.python_version()}
        ask_all(services, images, [max(options.clients)], 2, 1)
        progress = progress_bar("asking the services")
        seen = ask_all(services, images, options.clients, options.seconds, options.rounds, progress)
    rows = {name: [load.figures() for load in loads] for name, loads in seen.items()}
    tell(options.output, "load_test", {"machine": about, "seen": rows}, load_table(seen))
    return 0


def ask_all(
    services: Mapping[str, str],
    images: Sequence[bytes],
    clients: Sequence[int],
    seconds: float,
    rounds: int,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> dict[str, list[Load]]:
    """Services interleaved, round by round, so that what else the machine does meets them alike.

    Args:
        services: addresses by name.
        seconds: of one service, number of clients and round.

    Returns: by service, one load for each number of clients.
    """
    seen: dict[str, list[list[Load]]] = {name: [[] for _ in clients] for name in services}
    turns = [(name, place) for _ in range(rounds) for place in range(len(clients)) for name in services]
    for done, (name, place) in enumerate(turns):
        seen[name][place].append(ask(services[name], images, clients[place], seconds))
        progress(done + 1, len(turns))
    return {name: [Load.joined(loads) for loads in each] for name, each in seen.items()}


def ask(address: str, images: Sequence[bytes], clients: int, seconds: float, token: str = "") -> Load:
    """So many clients for so long; each request is one image, PNG.

    Args:
        address: of the service, without a path.
        token: that the service asks for.
    """
    latencies: list[float] = []
    failed: list[float] = []
    supply = itertools.cycle(images)
    headers = {"Content-Type": "image/png", **({"Authorization": f"Bearer {token}"} if token else {})}
    start = time.perf_counter()

    async def client(session: aiohttp.ClientSession) -> None:
        while (began := time.perf_counter()) < start + seconds:
            try:
                async with session.post(f"{address}/read", data=next(supply)) as response:
                    await response.read()
                    is_answered = response.status == 200
            except (aiohttp.ClientError, TimeoutError):
                is_answered = False
            (latencies if is_answered else failed).append(time.perf_counter() - began)

    async def all_clients() -> None:
        connector, timeout = aiohttp.TCPConnector(limit=clients), aiohttp.ClientTimeout(total=SECONDS_FOR_ONE)
        async with aiohttp.ClientSession(connector=connector, timeout=timeout, headers=headers) as session:
            await asyncio.gather(*(client(session) for _ in range(clients)))

    asyncio.run(all_clients())
    return Load(clients, np.array(latencies), len(failed), time.perf_counter() - start)


def load_table(seen: Mapping[str, Sequence[Load]]) -> str:
    """Markdown: a row for each number of clients and service; rates beside the last service's."""
    lines = ["| clients | reads | requests/s | | " + " | ".join(f"p{p}, ms" for p in PERCENTILES) + " | failed |"]
    lines += ["|---:|---|---:|---:|" + "---:|" * (len(PERCENTILES) + 1)]
    *_, last = seen
    for loads in zip(*seen.values(), strict=True):
        rows = {name: load.figures() for name, load in zip(seen, loads, strict=True)}
        for name, row in rows.items():
            rate = row["requests_per_second"]
            ratio = "" if name == last else f"× {rate / rows[last]['requests_per_second']:.2f}"
            cells = [f"{row['clients']}", name, f"{rate:.1f}", ratio, *(f"{row[f'p{p}_ms']:.0f}" for p in PERCENTILES)]
            lines.append(f"| {' | '.join(cells)} | {row['num_failed']} |")
    return "\n".join(lines) + "\n"


def rendered_words(number: int) -> list[bytes]:
    """PNG files of words as ``make demo`` renders them, at their natural size."""
    faces, files = fonts(), []
    for index in range(number):
        file = io.BytesIO()
        Image.fromarray(render_word(0, index, faces)[1]).save(file, "PNG")
        files.append(file.getvalue())
    return files


@contextmanager
def service_process(words: Sequence[str], environment: Mapping[str, str] | None = None) -> Iterator[str]:
    """``serve.py`` with these words and a free port, ended by Ctrl-C's signal; its address, once it reads.

    Args:
        words: of its command line, without a port.
        environment: the process's; None: this one's.

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
    while time.monotonic() < until and service.poll() is None:
        if match := _READY.search(log.read_text()):
            return match[1]
        time.sleep(0.2)
    raise RunStopped(f"the service does not read: {log.read_text().strip()}")


if __name__ == "__main__":
    sys.exit(answer_mistakes(main))
