"""The images of a request are those that were sent, or a refusal says why."""

from __future__ import annotations

import base64
import json

import pytest
import requests
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.service.body import SentImage, images_of
from pipelines.service.limits import Refusal

MOST = 5


def multipart(files: list[tuple[str, bytes]]) -> tuple[str, bytes]:
    """Content type and body as ``requests`` writes them."""
    parts = [("images", (name, data, "image/png")) for name, data in files]
    request = requests.Request("POST", "http://x/", files=parts).prepare()
    return request.headers["Content-Type"], request.body


@settings(deadline=None, max_examples=40)
@given(st.lists(st.tuples(st.text("abcXYZ 0.-é", min_size=1, max_size=20), st.binary(min_size=1)), max_size=MOST))
def test_what_another_library_packs_is_unpacked(files: list[tuple[str, bytes]]) -> None:
    if not files:
        return
    found = images_of(*multipart(files), MOST)
    assert [image.data for image in found] == [data for _, data in files]
    plain = [(image.name, name) for image, (name, _) in zip(found, files, strict=True) if name.isascii()]
    assert all(mine == theirs for mine, theirs in plain)


@settings(deadline=None, max_examples=40)
@given(st.lists(st.binary(min_size=1), min_size=1, max_size=MOST))
def test_json_holds_base64(files: list[bytes]) -> None:
    body = json.dumps({"images": [base64.b64encode(data).decode() for data in files]}).encode()
    assert images_of("application/json; charset=utf-8", body, MOST) == [SentImage("", data) for data in files]


def test_a_data_url_is_its_bytes() -> None:
    body = json.dumps({"images": ["data:image/png;base64," + base64.b64encode(b"bytes").decode()]}).encode()
    assert images_of("application/json", body, MOST) == [SentImage("", b"bytes")]


def test_what_is_not_base64_is_said_of_that_image_alone() -> None:
    first, second = images_of("application/json", b'{"images": ["??", "AAAA"]}', MOST)
    assert "not base64" in first.fault
    assert second == SentImage("", b"\0\0\0")


@pytest.mark.parametrize("kind", ["image/png", "IMAGE/JPEG", "application/octet-stream", "image/svg+xml; charset=x"])
def test_a_body_may_be_the_image(kind: str) -> None:
    assert images_of(kind, b"--abc", MOST) == [SentImage("", b"--abc")]


PART = b'--b\r\nContent-Disposition: form-data; name="i"; filename="a"\r\n\r\nx\r\n'


@pytest.mark.parametrize(
    ("kind", "body", "status", "says"),
    [
        ("", b"x", 415, "content type is not given"),
        ("text/plain", b"x", 415, "text/plain"),
        ("application/x-www-form-urlencoded", b"x", 415, "multipart/form-data"),
        ("image/png", b"", 422, "no image"),
        ("application/json", b"{", 400, "not JSON"),
        ("application/json", b"\xff", 400, "not JSON"),
        ("application/json", b"[" * 100_000, 400, "not JSON"),
        ("application/json", b"[]", 422, '"images"'),
        ("application/json", b'{"images": "AAAA"}', 422, '"images"'),
        ("application/json", b'{"images": [1]}', 422, '"images"'),
        ("application/json", b'{"images": []}', 422, "no image"),
        ("application/json", json.dumps({"images": ["AAAA"] * 6}).encode(), 413, "more than 5 images"),
        ("multipart/form-data", PART, 400, "boundary"),
        ("multipart/form-data; boundary=" + "b" * 200, PART, 400, "boundary"),
        ("multipart/form-data; boundary=b", b"", 400, "breaks off"),
        ("multipart/form-data; boundary=b", PART, 400, "breaks off"),
        ("multipart/form-data; boundary=b", PART + b"--b\r\nContent-Disp", 400, "breaks off"),
        ("multipart/form-data; boundary=b", PART * 6 + b"--b--", 413, "more than 5 images"),
        ("multipart/form-data; boundary=b", b"--b--", 422, "no image"),
    ],
)
def test_the_wrong_is_refused_with_the_way_out(kind: str, body: bytes, status: int, says: str) -> None:
    with pytest.raises(Refusal, match=says) as refused:
        images_of(kind, body, MOST)
    assert refused.value.status == status


@settings(deadline=None, max_examples=150)
@given(
    st.sampled_from(["application/json", "multipart/form-data; boundary=b", 'multipart/form-data; boundary="b"']),
    st.lists(st.one_of(st.binary(), st.sampled_from([PART, b"--b", b"--b--", b"\r\n", b'{"images":[', b'"', b"]}"]))),
)
def test_whatever_is_sent_gives_images_or_a_refusal(kind: str, pieces: list[bytes]) -> None:
    try:
        num_images, status = len(images_of(kind, b"".join(pieces), MOST)), 200
    except Refusal as refusal:
        num_images, status = 1, refusal.status
    assert 1 <= num_images <= MOST
    assert status in (200, 400, 413, 422)
