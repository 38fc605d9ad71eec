"""How much a reading service takes at a time, and the answer to what is more than that."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

MEGABYTE = 2**20


class Refusal(Exception):
    """A request that is answered with an error.

    Attributes:
        status: of HTTP, 4xx or 503.
        headers: that the answer carries beside its own.
    """

    def __init__(self, status: int, sentence: str, **headers: str) -> None:
        super().__init__(sentence)
        self.status = status
        self.headers = {name.replace("_", "-"): value for name, value in headers.items()}


def busy(sentence: str) -> Refusal:
    """The answer to what may be asked again in a while."""
    return Refusal(503, sentence, retry_after="1")


@dataclass(frozen=True)
class ServiceLimits:
    """What a service takes, so that neither a large nor a slow request harms the others."""

    body_megabytes: float = 8.0
    """largest request"""
    images_per_request: int = 64
    """most images in one request"""
    megapixels: float = 32.0
    """largest image; a larger one is refused by what its header says, before it is unpacked"""
    seconds_to_send: float = 20.0
    """for a client to send the head of a request, and again for its body"""
    seconds_to_read: float = 30.0
    """for the images of a request to be read, waiting included"""
    requests_at_once: int = 256
    """requests in hand; the next is asked to come again"""
    megabytes_at_once: float = 64.0
    """bodies of all requests in hand; Ray hands them on through its store of 128 MB"""
    connections: int = 1024
    """open at a time"""

    def check(self) -> None:
        """Raises: ValueError for a limit that lets nothing through."""
        for name, value in vars(self).items():
            if not value > 0:
                raise ValueError(f"--limits.{name.replace('_', '-')} is {value}, expected more than 0")
        if self.megabytes_at_once < self.body_megabytes:
            raise ValueError(
                f"--limits.megabytes-at-once is {self.megabytes_at_once:g}, less than one request may have: give "
                f"{self.body_megabytes:g} or more, or a smaller --limits.body-megabytes"
            )

    @property
    def body_bytes(self) -> int:
        return int(self.body_megabytes * MEGABYTE)

    @property
    def pixels(self) -> int:
        return int(self.megapixels * 1e6)


class Admission:
    """Counts requests in hand and the bytes of their bodies; for one event loop."""

    def __init__(self, limits: ServiceLimits) -> None:
        self._limits = limits
        self.num_requests = 0
        self.num_bytes = 0

    @contextmanager
    def request(self) -> Iterator[Share]:
        """A place for one request, given back at the end. Raises: Refusal (503) if all are taken."""
        if self.num_requests >= self._limits.requests_at_once:
            raise busy(f"{self.num_requests} requests are in hand, which is the limit; ask again in a second")
        share = Share(self, self._limits)
        self.num_requests += 1
        try:
            yield share
        finally:
            self.num_requests -= 1
            self.num_bytes -= share.num_bytes


class Share:
    """What one request holds of its service's memory."""

    def __init__(self, admission: Admission, limits: ServiceLimits) -> None:
        self._admission, self._limits = admission, limits
        self.num_bytes = 0

    def check(self, num_bytes: int) -> None:
        """Raises: Refusal (413) for a request of so many bytes."""
        if num_bytes > self._limits.body_bytes:
            raise Refusal(
                413,
                f"the request has more than {self._limits.body_megabytes:g} MB; send fewer or smaller images at a time",
            )

    def take(self, num_bytes: int) -> None:
        """So many bytes more. Raises: Refusal (413, 503)."""
        self.check(self.num_bytes + num_bytes)
        if self._admission.num_bytes + num_bytes > self._limits.megabytes_at_once * MEGABYTE:
            raise busy("other requests fill the memory of the service; ask again in a second")
        self.num_bytes += num_bytes
        self._admission.num_bytes += num_bytes
