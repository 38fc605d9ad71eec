"""The images of a request to read, in whichever of three ways they were sent."""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass

from pipelines.service.limits import Refusal

WAYS = (
    "send one image as the body with its content type (such as image/png), several as multipart/form-data, or JSON "
    'as {"images": ["base64…"]}'
)
_FILE_NAME = re.compile(rb'filename="((?:[^"\\]|\\.){0,1000})"', re.IGNORECASE)
_BOUNDARY = re.compile(r"""^boundary=("?)([^"\s;]{1,70})\1$""", re.IGNORECASE)
_DATA_URL = re.compile(r"data:[\w/+.;=-]{0,100},")
_LONGEST_NAME = 200


@dataclass(frozen=True)
class SentImage:
    """An image as it was sent.

    Attributes:
        name: of its file; '' where none was said.
        data: encoded, and maybe anything at all.
        fault: a sentence, if it cannot even be unwrapped.
    """

    name: str
    data: bytes
    fault: str = ""


def images_of(content_type: str, body: bytes, most: int) -> list[SentImage]:
    """The images of a request, in their order.

    Args:
        content_type: as the header has it.
        most: images that are taken in one request.

    Raises: Refusal: 400 for a body that is not what its content type says, 413 for too many images, 415 for another
        content type, 422 for none.
    """
    kind, _, parameters = content_type.partition(";")
    kind = kind.strip().lower()
    if kind == "application/json":
        images = _of_json(body, most)
    elif kind == "multipart/form-data":
        images = [SentImage(*part) for part in _parts(body, _boundary(parameters), most) if part[1]]
    elif kind.startswith("image/") or kind == "application/octet-stream":
        images = [SentImage("", body)] if body else []
    else:
        raise Refusal(415, f"the content type is {kind[:100] or 'not given'}; {WAYS}")
    if not images:
        raise Refusal(422, f"there is no image in the request; {WAYS}")
    return images


def _of_json(body: bytes, most: int) -> list[SentImage]:
    try:
        document = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise Refusal(400, f"the body is not JSON ({str(error)[:200]}); {WAYS}") from error
    texts = document.get("images") if isinstance(document, dict) else None
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise Refusal(422, f'the JSON has no list of texts named "images"; {WAYS}')
    _check_number(len(texts), most)
    return [_unwrapped(text) for text in texts]


def _unwrapped(text: str) -> SentImage:
    prefix = _DATA_URL.match(text)
    try:
        return SentImage("", base64.b64decode(text[prefix.end() if prefix else 0 :], validate=True))
    except (binascii.Error, ValueError):
        return SentImage("", b"", "this is not base64; encode the file's bytes with the standard alphabet")


def _boundary(parameters: str) -> bytes:
    for parameter in parameters.split(";"):
        if match := _BOUNDARY.match(parameter.strip()):
            return match[2].encode("latin-1", "replace")
    raise Refusal(400, "the content type multipart/form-data comes without the boundary that separates its parts")


def _parts(body: bytes, boundary: bytes, most: int) -> Iterator[tuple[str, bytes]]:
    """File name and content of every part that is a file (RFC 7578). The body is in memory already."""
    pieces = (b"\r\n" + body).split(b"\r\n--" + boundary, most + 2)
    for number, piece in enumerate(pieces[1:]):
        if piece.startswith(b"--"):
            return
        _check_number(number + 1, most)
        head, separator, content = piece.partition(b"\r\n\r\n")
        if not separator or len(head) > 10_000:
            break
        if name := _FILE_NAME.search(head):
            yield name[1].decode("utf-8", "replace")[:_LONGEST_NAME], content
    raise Refusal(400, "the multipart body breaks off before its closing boundary; send it whole")


def _check_number(number: int, most: int) -> None:
    if number > most:
        raise Refusal(413, f"there are more than {most} images in the request; send them in several")
