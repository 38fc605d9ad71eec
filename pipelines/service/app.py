"""The HTTP API of a reading service, as a FastAPI app, and its page; who reads the images stands behind it."""

from __future__ import annotations

import asyncio
import hmac
import html
import json
import socket
from collections.abc import Sequence
from importlib.resources import files
from typing import Annotated, Any, Literal, Protocol

import uvicorn
from fastapi import Depends, FastAPI, HTTPException, Request
from fastapi.responses import HTMLResponse
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from fastapi.staticfiles import StaticFiles
from pydantic import Base64Bytes, BaseModel, BeforeValidator, Field, ValidationError
from starlette.datastructures import Headers, UploadFile
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from pipelines.prediction.doubt import Doubt
from pipelines.prediction.predictions import Box
from pipelines.run.progress import say
from pipelines.service.options import ServiceLimits

SECONDS_FOR_HEALTH = 5.0
WAYS = (
    "send one image as the body with its content type (such as image/png), several as multipart/form-data, or JSON "
    'as {"images": ["base64…"]}'
)
# The page runs its own script and style and no others.
PAGE_POLICY = (
    "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; img-src data: blob:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


class WordAnswer(BaseModel):
    """What was read of one image; error in the place of text if it cannot be read."""

    name: str | None = Field(None, description="name of the file, in multipart/form-data")
    text: str | None = None
    confidence: float | None = Field(None, ge=0, le=1, description="probability of the whole prediction")
    character_confidences: list[float] | None = Field(None, description="one for each character of text")
    doubt: Doubt | None = Field(None, description="why the text may not be all that the picture says")
    box: Box | None = Field(None, description="with words: four corners [x, y] in pixels of the upright image")
    seen: str | None = Field(None, description="with ?seen=png: what the recognizer was shown, as a PNG in base64")
    words: list[WordAnswer] | None = Field(
        None, description="in the place of text, of a service that detects: the words of the image, in reading order"
    )
    error: str | None = None


class Answer(BaseModel):
    """One entry for each image, in their order."""

    images: list[WordAnswer]


class Health(BaseModel):
    """A replica answers; (height, width) of what its recognizer sees."""

    status: Literal["ready"] = "ready"
    image_size: tuple[int, int]


def _without_prefix(text: object) -> object:
    return text.partition(",")[2] if isinstance(text, str) and text.startswith("data:") else text


class ImagesInJson(BaseModel):
    """Images in base64; data URLs are taken as well."""

    images: list[Annotated[Base64Bytes, BeforeValidator(_without_prefix)]]


class Readers(Protocol):
    """Who reads. Both raise HTTPException (503) if nobody is there to do it."""

    async def read(self, images: Sequence[bytes], with_seen: bool) -> list[WordAnswer]: ...

    async def image_size(self) -> tuple[int, int]: ...


def busy(sentence: str) -> HTTPException:
    """The answer to what may be asked again in a while."""
    return HTTPException(503, sentence, {"Retry-After": "1"})


def build_app(readers: Readers, limits: ServiceLimits, token: str = "", *, detects: bool = False) -> FastAPI:
    """The app.

    Args:
        token: that requests to read have to show; '' asks for none.
        detects: whether the readers find the words of whole pictures, as the page then says.
    """
    app = FastAPI(title="Word reader", version="1", redoc_url=None)
    app.add_middleware(Admission, limits=limits)
    app.mount("/assets", StaticFiles(packages=[("pipelines.service", "assets")]))
    document = files("pipelines.service").joinpath("assets", "service_page.html").read_text(encoding="utf-8")
    given = {"images": limits.images_per_request, "bytes": limits.body_bytes, "detects": detects}
    document = document.replace("LIMITS", html.escape(json.dumps(given)))

    @app.get("/", response_class=HTMLResponse, include_in_schema=False)
    async def page() -> HTMLResponse:
        return HTMLResponse(document, headers={"content-security-policy": PAGE_POLICY})

    @app.get("/health", responses={503: {}})
    async def health() -> Health:
        """Whether a replica answers."""
        try:
            async with asyncio.timeout(SECONDS_FOR_HEALTH):
                return Health(image_size=await readers.image_size())
        except TimeoutError:
            raise busy(f"no replica answers within {SECONDS_FOR_HEALTH:g} s") from None

    @app.post(
        "/read",
        response_model_exclude_none=True,
        responses={status: {} for status in (400, *([401] if token else []), 413, 415, 422, 503)},
        openapi_extra={"requestBody": _bodies(limits)},
        dependencies=[Depends(_token_check(token))] if token else [],
    )
    async def read(request: Request, seen: Literal["png"] | None = None) -> Answer:
        """Read the word in each image, or all its words where the service detects."""
        try:
            async with asyncio.timeout(limits.seconds_to_read):
                images = await _sent_images(request, limits.images_per_request)
                words = await readers.read([data for _, data in images], seen == "png")
        except ClientDisconnect as left:
            raise HTTPException(400, "the client left") from left
        except TimeoutError:
            raise busy(
                f"the images were not read within {limits.seconds_to_read:g} s; send fewer at a time, ask again later, "
                "or start the service with more --replicas"
            ) from None
        for (name, _), word in zip(images, words, strict=True):
            word.name = name
        if all(word.error for word in words):
            raise HTTPException(422, "; ".join(dict.fromkeys(word.error or "" for word in words)))
        return Answer(images=words)

    return app


class Admission:
    """ASGI middleware: so many requests in hand, and so many bytes in the body of each.

    What is too much is refused as the app begins to read the body: a large one before it is sent.
    """

    def __init__(self, app: ASGIApp, limits: ServiceLimits) -> None:
        self._app, self._limits, self._num_requests = app, limits, 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        limits, num_bytes = self._limits, 0
        announced = int(Headers(scope=scope).get("content-length", "0"))
        is_admitted = self._num_requests < limits.requests_at_once

        async def limited() -> Message:
            nonlocal num_bytes
            if not is_admitted:
                raise busy(
                    f"{limits.requests_at_once} requests are being answered, which is the limit; ask again in a second"
                )
            message = await receive() if announced <= limits.body_bytes else {}
            num_bytes += len(message.get("body", b""))
            if max(announced, num_bytes) > limits.body_bytes:
                sentence = f"the request has more than {limits.body_megabytes:g} MB; send fewer or smaller images"
                raise HTTPException(413, sentence)
            return message

        self._num_requests += 1
        try:
            await self._app(scope, limited, send)
        finally:
            self._num_requests -= 1


async def _sent_images(request: Request, most: int) -> list[tuple[str | None, bytes]]:
    """(file name, bytes) of each image of a request. Raises: HTTPException (400, 413, 415, 422, 503)."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    images: list[tuple[str | None, bytes]]
    if request.headers.get("content-encoding", "identity") != "identity":
        raise HTTPException(415, "the body is compressed as a whole; send it without Content-Encoding")
    if kind == "multipart/form-data":
        async with request.form() as form:
            sent = [value for _, value in form.multi_items() if isinstance(value, UploadFile)]
            images = [(file.filename, await file.read()) for file in sent if file.size]
    elif kind == "application/json":
        try:
            images = [(None, data) for data in ImagesInJson.model_validate_json(await request.body()).images]
        except ValidationError as error:
            fault = error.errors()[0]
            place = ".".join(map(str, fault["loc"]))
            raise HTTPException(400, f"the JSON has a fault: {place}: {fault['msg'][:200]}; {WAYS}") from error
    elif kind.startswith("image/") or kind == "application/octet-stream":
        images = [(None, body)] if (body := await request.body()) else []
    else:
        raise HTTPException(415, f"the content type is {kind[:100] or 'not given'}; {WAYS}")
    if not images:
        raise HTTPException(422, f"there is no image in the request; {WAYS}")
    if len(images) > most:
        raise HTTPException(413, f"there are more than {most} images in the request; send them in several")
    return images


def _bodies(limits: ServiceLimits) -> dict[str, Any]:
    """The three ways to send images, for the OpenAPI document."""
    file = {"type": "string", "contentMediaType": "application/octet-stream"}
    form = {"type": "object", "properties": {"images": {"type": "array", "items": file}}}
    ways = {"image/*": {}, "multipart/form-data": {"schema": form}}
    ways["application/json"] = {"schema": ImagesInJson.model_json_schema()}
    about = f"At most {limits.images_per_request} images and {limits.body_megabytes:g} MB in a request."
    return {"required": True, "description": about, "content": ways}


def _token_check(token: str) -> Any:
    async def check(
        shown: Annotated[HTTPAuthorizationCredentials | None, Depends(HTTPBearer(auto_error=False))],
    ) -> None:
        if shown is None or not hmac.compare_digest(shown.credentials.encode("latin-1"), token.encode()):
            sentence = "this service asks for its token; send it as the header Authorization: Bearer TOKEN"
            raise HTTPException(401, sentence, {"WWW-Authenticate": "Bearer"})

    return check


class Server(uvicorn.Server):
    """HTTP/1.1 (h11, which bounds the head of a request) before the app; it greets once a signal would end it."""

    def __init__(self, app: FastAPI, greeting: str) -> None:
        silent: dict[str, Any] = {"log_config": None, "log_level": "error", "server_header": False}
        super().__init__(uvicorn.Config(app, http="h11", ws="none", timeout_graceful_shutdown=10, **silent))
        self.greeting = greeting

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        say(self.greeting)
