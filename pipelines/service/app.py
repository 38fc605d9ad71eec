"""What a reading service answers over HTTP; who reads the images stands behind it."""

from __future__ import annotations

import asyncio
import base64
import hmac
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route

from kdltr_core.recognizers.decoding import Prediction
from pipelines.service.body import images_of
from pipelines.service.limits import Admission, Refusal, ServiceLimits, Share, busy
from pipelines.service.page import Page
from pipelines.service.schema import describe_api

# Larger bodies are taken apart beside the event loop, one at a time.
LARGE_BODY = 2**18
SECONDS_FOR_HEALTH = 5.0
DIGITS = 6  # of a probability


@dataclass(frozen=True)
class ImageAnswer:
    """What was read of one image: a word, or a sentence that says why not.

    Attributes:
        seen: PNG of the pixels that the recognizer saw, if they were asked for.
    """

    word: Prediction | None = None
    seen: bytes = b""
    fault: str = ""


class Readers(Protocol):
    """Who reads. Both raise Refusal (503) if nobody is there to do it."""

    async def read(self, images: Sequence[bytes], with_seen: bool) -> list[ImageAnswer]: ...

    async def about(self) -> dict[str, Any]: ...


class Door:
    """The paths of a reading service.

    Args:
        token: that requests to read have to show; '' asks for none.
    """

    def __init__(self, readers: Readers, limits: ServiceLimits, token: str = "") -> None:
        self._readers, self._limits, self._token = readers, limits, token.encode()
        self._admission = Admission(limits)
        self._unwrapping = asyncio.Semaphore(1)
        self._page = Page(limits)

    def app(self) -> Starlette:
        routes = [
            Route("/read", self.read, methods=["POST"]),
            Route("/", self.page),
            Route("/health", self.health),
            Route("/openapi.json", self.schema),
        ]
        handlers: dict[Any, Any] = {Refusal: _refused, HTTPException: _http_error, Exception: _our_fault}
        return Starlette(routes=routes, exception_handlers=handlers)

    async def read(self, request: Request) -> Response:
        self._check_token(request)
        if request.headers.get("content-encoding", "identity") != "identity":
            raise Refusal(415, "the body is compressed as a whole; send it without Content-Encoding")
        try:
            with self._admission.request() as share:
                body = await self._body(request, share)
                arguments = (request.headers.get("content-type", ""), body, self._limits.images_per_request)
                if len(body) < LARGE_BODY:
                    images = images_of(*arguments)
                else:
                    async with self._unwrapping:
                        images = await asyncio.to_thread(images_of, *arguments)
                whole = [image.data for image in images if not image.fault]
                answers = iter(await self._read(whole, request.query_params.get("seen") == "png"))
        except ClientDisconnect:
            return Response(status_code=400)  # nobody is there to read it
        said = [
            {
                **({"name": image.name} if image.name else {}),
                **_told(ImageAnswer(fault=image.fault) if image.fault else next(answers)),
            }
            for image in images
        ]
        if all("error" in entry for entry in said):
            one = said[0]["error"] if len(said) == 1 else f"none of the {len(said)} images can be read"
            return _json({"error": one, "images": said}, 422)
        return _json({"images": said})

    async def page(self, request: Request) -> Response:
        return HTMLResponse(self._page.html, headers=self._page.headers)

    async def health(self, request: Request) -> Response:
        try:
            async with asyncio.timeout(SECONDS_FOR_HEALTH):
                return _json({"status": "ready", **await self._readers.about()})
        except TimeoutError:
            raise busy(f"no replica answers within {SECONDS_FOR_HEALTH:g} s") from None

    async def schema(self, request: Request) -> Response:
        return _json(describe_api(self._limits, has_token=bool(self._token)))

    def _check_token(self, request: Request) -> None:
        if not self._token:
            return
        kind, _, shown = request.headers.get("authorization", "").partition(" ")
        if kind.lower() != "bearer" or not hmac.compare_digest(shown.strip().encode("latin-1"), self._token):
            raise Refusal(
                401,
                "this service asks for its token; send it as the header Authorization: Bearer TOKEN",
                www_authenticate="Bearer",
            )

    async def _body(self, request: Request, share: Share) -> bytes:
        """Raises: Refusal (400, 408, 413, 503); starlette's ClientDisconnect."""
        length = request.headers.get("content-length", "0")
        share.check(int(length) if length.isascii() and length.isdigit() and len(length) < 20 else 2**63)
        body = bytearray()
        try:
            async with asyncio.timeout(self._limits.seconds_to_send):
                async for chunk in request.stream():
                    share.take(len(chunk))
                    body += chunk
        except TimeoutError:
            sentence = (
                f"the request did not arrive within {self._limits.seconds_to_send:g} s; send fewer images at once"
            )
            raise Refusal(408, sentence, connection="close") from None
        return bytes(body)

    async def _read(self, images: Sequence[bytes], with_seen: bool) -> list[ImageAnswer]:
        if not images:
            return []
        try:
            async with asyncio.timeout(self._limits.seconds_to_read):
                return await self._readers.read(images, with_seen)
        except TimeoutError:
            raise busy(
                f"the images were not read within {self._limits.seconds_to_read:g} s; send fewer at a time, ask again "
                "later, or start the service with more --replicas"
            ) from None


def _told(answer: ImageAnswer) -> dict[str, Any]:
    if answer.word is None:
        return {"error": answer.fault}
    word: dict[str, Any] = {
        "text": answer.word.text,
        "confidence": round(answer.word.confidence, DIGITS),
        "character_confidences": [round(share, DIGITS) for share in answer.word.character_confidences],
    }
    if answer.seen:
        word["seen"] = base64.b64encode(answer.seen).decode()
    return word


def _json(document: dict[str, Any], status: int = 200, **headers: str) -> JSONResponse:
    safe = {"cache-control": "no-store", "x-content-type-options": "nosniff"}
    return JSONResponse(document, status, headers={**safe, **headers})


async def _refused(request: Request, refusal: Refusal) -> Response:
    return _json({"error": str(refusal)}, refusal.status, **refusal.headers)


async def _http_error(request: Request, error: HTTPException) -> Response:
    sentences = {
        404: "there is nothing here; images are sent to POST /read, GET / is a page to try it, /openapi.json says more",
        405: "this path does not know that method; images are sent with POST to /read",
    }
    return _json({"error": sentences.get(error.status_code, error.detail)}, error.status_code, **(error.headers or {}))


async def _our_fault(request: Request, error: Exception) -> Response:
    return _json({"error": "the service made a mistake; its terminal says which"}, 500)
