"""The HTTP server before a reading service: uvicorn, with patience for slow and silent clients that ends."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Callable
from typing import Any

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from pipelines.service.limits import ServiceLimits

SECONDS_TO_FINISH = 10


def open_port(host: str, port: int) -> socket.socket:
    """A listening socket; port 0 is any free one. Raises: ValueError if it cannot be had."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=1024)
    except (OSError, OverflowError) as error:
        raise ValueError(
            f"port {port} of {host} cannot be opened ({error}); give another --port (0: any that is free) or --host"
        ) from error


def run_server(app: Any, listening: socket.socket, limits: ServiceLimits, ready: Callable[[], None]) -> None:
    """Answer until SIGINT or SIGTERM, after which requests in hand are finished.

    Args:
        ready: called when the first request can be answered.

    Raises: KeyboardInterrupt.
    """
    server_of(app, limits, ready).run(sockets=[listening])


def server_of(app: Any, limits: ServiceLimits, ready: Callable[[], None] = lambda: None) -> uvicorn.Server:
    class Server(uvicorn.Server):
        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            ready()

    class Patience(_Patience):
        patience = limits.seconds_to_send
        most = limits.connections

    return Server(
        uvicorn.Config(
            app,
            http=Patience,
            ws="none",
            lifespan="off",
            log_config=None,
            log_level="error",
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=SECONDS_TO_FINISH,
        )
    )


class _Patience(H11Protocol):
    """One connection; closed if its client does not send the head of a request in time, or the rest of a refused one.

    h11 bounds the size of a head and knows no time. The app itself minds how long a body takes.
    """

    patience: float
    most: int
    _waiting: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if len(self.connections) > self.most:
            self._refuse(503, "Service Unavailable", f"{self.most} connections are open, which is the limit")
        self._watch()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._watch()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._stop_watching()

    def send_400_response(self, msg: str) -> None:
        self._refuse(400, "Bad Request", "this is not HTTP/1.1 as this service understands it")

    def _watch(self) -> None:
        if self.cycle is not None and not self.cycle.response_complete:
            self._stop_watching()
        elif self._waiting is None:
            self._waiting = self.loop.call_later(self.patience, self.transport.abort)

    def _stop_watching(self) -> None:
        if self._waiting is not None:
            self._waiting.cancel()
            self._waiting = None

    def _refuse(self, status: int, reason: str, sentence: str) -> None:
        body = json.dumps({"error": sentence}).encode()
        head = f"HTTP/1.1 {status} {reason}\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n"
        self.transport.write(head.encode() + b"connection: close\r\nretry-after: 1\r\n\r\n" + body)
        self.transport.close()
