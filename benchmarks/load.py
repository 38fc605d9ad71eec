"""Clients that ask a reading service as fast as it answers, and what they saw."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import aiohttp
import numpy as np

PERCENTILES = (50, 95, 99)
SECONDS_FOR_ONE = 120


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

    @property
    def requests_per_second(self) -> float:
        return len(self.latencies) / self.seconds

    def percentile(self, percent: int) -> float:
        """Milliseconds."""
        return float(np.percentile(self.latencies, percent)) * 1000

    @classmethod
    def joined(cls, rounds: Sequence[Load]) -> Load:
        """Several rounds of one kind as one."""
        latencies = np.concatenate([load.latencies for load in rounds])
        num_failed, seconds = sum(load.num_failed for load in rounds), sum(load.seconds for load in rounds)
        return cls(rounds[0].clients, latencies, num_failed, seconds)


def ask(address: str, images: Sequence[bytes], clients: int, seconds: float, token: str = "") -> Load:
    """So many clients for so long; each request is one image, PNG.

    Args:
        address: of the service, without a path.
        token: that the service asks for.
    """
    return asyncio.run(_ask(address, images, clients, seconds, token))


async def _ask(address: str, images: Sequence[bytes], clients: int, seconds: float, token: str) -> Load:
    latencies: list[float] = []
    num_failed = 0
    supply = itertools.cycle(images)
    headers = {"Content-Type": "image/png", **({"Authorization": f"Bearer {token}"} if token else {})}
    connector = aiohttp.TCPConnector(limit=clients)
    timeout = aiohttp.ClientTimeout(total=SECONDS_FOR_ONE)
    async with aiohttp.ClientSession(connector=connector, timeout=timeout, headers=headers) as session:

        async def client() -> None:
            nonlocal num_failed
            while time.perf_counter() < until:
                began = time.perf_counter()
                try:
                    async with session.post(f"{address}/read", data=next(supply)) as response:
                        await response.read()
                        is_answered = response.status == 200
                except (aiohttp.ClientError, TimeoutError):
                    is_answered = False
                if is_answered:
                    latencies.append(time.perf_counter() - began)
                else:
                    num_failed += 1

        start = time.perf_counter()
        until = start + seconds
        await asyncio.gather(*(client() for _ in range(clients)))
    return Load(clients, np.array(latencies), num_failed, time.perf_counter() - start)


def compare(
    services: dict[str, str],
    images: Sequence[bytes],
    clients: Sequence[int],
    seconds: float,
    rounds: int,
    progress: Callable[[int, int], None],
    token: str = "",
) -> dict[str, list[Load]]:
    """Services in turn, round by round, so that what else the machine does meets them alike.

    Args:
        services: addresses by name.
        seconds: of one service, number of clients and round.

    Returns: by service, one load for each number of clients.
    """
    seen: dict[str, list[list[Load]]] = {name: [[] for _ in clients] for name in services}
    turns = [(name, place) for _ in range(rounds) for place in range(len(clients)) for name in services]
    for done, (name, place) in enumerate(turns):
        progress(done, len(turns))
        seen[name][place].append(ask(services[name], images, clients[place], seconds, token))
    progress(len(turns), len(turns))
    return {name: [Load.joined(loads) for loads in each] for name, each in seen.items()}
