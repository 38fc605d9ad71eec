"""A reading service over HTTP: words for images, and for all else an answer that says the way out."""

from __future__ import annotations

import base64
import io
import re
import socket
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import pytest
import requests
from fastapi.testclient import TestClient
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from kdltr_core.inference.reader import load_student
from pipelines.service.app import WordAnswer, build_app
from pipelines.service.options import ServiceLimits
from tests.service import encoded, local_service, word_picture

SMALL = ServiceLimits(body_megabytes=0.125, images_per_request=4, megapixels=1, requests_at_once=2)
HOTEL = encoded(word_picture("HOTEL"))
PNG = {"Content-Type": "image/png"}
FORM = "multipart/form-data; boundary=b"
PART = b'--b\r\nContent-Disposition: form-data; name="i"; filename="a"\r\n\r\nx\r\n'


class Echo:
    """Whose words are the bytes of the images."""

    async def read(self, images: Sequence[bytes], with_seen: bool) -> list[WordAnswer]:
        return [WordAnswer(text=image.decode("latin-1")) for image in images]

    async def image_size(self) -> tuple[int, int]:
        return 16, 64


@pytest.fixture(scope="module")
def service(student: Path) -> Iterator[str]:
    with local_service(student, SMALL) as address:
        yield address


@pytest.fixture(scope="module")
def echo() -> TestClient:
    return TestClient(build_app(Echo(), SMALL), raise_server_exceptions=False)


def test_the_three_ways_to_send_give_what_the_reader_reads(service: str, student: Path) -> None:
    words = ("HOTEL", "1984", "Espresso")
    files = [encoded(word_picture(word), kind) for word, kind in zip(words, ("PNG", "JPEG", "WEBP"), strict=True)]
    expected = load_student(student, "cpu")(files)
    assert [word.text for word in expected] == list(words)
    form = [("images", (f"{number}.png", file)) for number, file in enumerate(files)]
    by_form = requests.post(f"{service}/read", files=form).json()["images"]
    texts = [base64.b64encode(file).decode() for file in files]
    by_json = requests.post(f"{service}/read", json={"images": [f"data:image/png;base64,{texts[0]}", *texts[1:]]})
    by_body = [requests.post(f"{service}/read", file, headers=PNG).json()["images"][0] for file in files]
    assert [entry.pop("name") for entry in by_form] == ["0.png", "1.png", "2.png"]
    assert by_json.json()["images"] == by_form == by_body
    for word, entry in zip(expected, by_body, strict=True):
        assert set(entry) == {"text", "confidence", "character_confidences"}
        assert entry["text"] == word.text
        np.testing.assert_allclose(entry["confidence"], word.confidence, atol=1e-4)
        np.testing.assert_allclose(entry["character_confidences"], word.character_confidences, atol=1e-4)


def test_the_pixels_that_the_recognizer_saw_are_shown_when_asked_for(service: str, student: Path) -> None:
    shown = requests.post(f"{service}/read?seen=png", HOTEL, headers=PNG).json()["images"][0]["seen"]
    seen = np.asarray(Image.open(io.BytesIO(base64.b64decode(shown))))
    np.testing.assert_array_equal(seen, load_student(student, "cpu").pixels(HOTEL))
    assert requests.post(f"{service}/read?seen=jpg", HOTEL, headers=PNG).status_code == 422


def test_a_service_that_detects_gives_the_words_of_each_picture_and_where_they_are(student: Path) -> None:
    """As the reader of whole pictures reads them; a plain picture has none, and one that is no image says so."""
    pytest.importorskip("rapidocr")
    picture = Image.new("RGB", (640, 480), "#f0e6d0")
    for word, place in (("HOTEL", (40, 60)), ("1984", (300, 300))):
        picture.paste(word_picture(word), place)
    sent = [encoded(picture), encoded(Image.new("RGB", (640, 480), "white")), b"no image"]
    with local_service(student, detect=True) as address:
        first, plain, none = requests.post(f"{address}/read", files=[("i", data) for data in sent]).json()["images"]
        assert "Drop pictures here" in requests.get(f"{address}/assets/service_page.js").text
        assert "&quot;detects&quot;: true" in requests.get(address).text
    expected = load_student(student, "cpu", detect=True)([picture])[0]
    assert [word["text"] for word in first["words"]] == [word.text for word in expected] == ["HOTEL", "1984"]
    boxes = np.array([word["box"] for word in first["words"]])
    np.testing.assert_allclose(boxes.mean(1), [(40 + 110, 60 + 45), (300 + 90, 300 + 45)], atol=40)
    assert plain["words"] == []
    assert "cannot be read as an image" in none["error"]


def test_an_unreadable_image_does_not_spoil_the_others(service: str) -> None:
    answer = requests.post(f"{service}/read", files=[("a", ("a.png", b"no image")), ("b", ("b.png", HOTEL))])
    assert answer.status_code == 200
    first, second = answer.json()["images"]
    assert (first["name"], second["text"]) == ("a.png", "HOTEL")
    assert "cannot be read as an image" in first["error"]
    alone = requests.post(f"{service}/read", b"no image", headers=PNG)
    assert alone.status_code == 422
    assert alone.json()["detail"] == first["error"]


def test_an_image_of_too_many_pixels_is_refused_by_its_header(service: str) -> None:
    bomb = encoded(Image.new("1", (10_000, 10_000)))
    assert len(bomb) < 20_000
    answer = requests.post(f"{service}/read", bomb, headers=PNG)
    assert (answer.status_code, "1000000 are the limit" in answer.json()["detail"]) == (422, True)


def test_requests_at_the_same_time_each_get_their_own_word(student: Path) -> None:
    def ask(word: str) -> str:
        answer = requests.post(f"{address}/read", encoded(word_picture(word)), headers=PNG)
        return answer.json()["images"][0]["text"]

    words = [f"{number}" for number in range(100, 116)]
    with local_service(student) as address, ThreadPoolExecutor(len(words)) as clients:
        assert list(clients.map(ask, words)) == words


@pytest.mark.parametrize(
    ("kind", "body", "status", "says"),
    [
        ("", b"x", 415, "content type is not given"),
        ("text/plain", b"x", 415, "text/plain"),
        ("application/x-www-form-urlencoded", b"x", 415, "multipart/form-data"),
        ("image/png", b"", 422, "no image"),
        ("application/json", b"{", 400, "the JSON has a fault"),
        ("application/json", b"\xff", 400, "the JSON has a fault"),
        ("application/json", b"[" * 100_000, 400, "the JSON has a fault"),
        ("application/json", b"[]", 400, '"images"'),
        ("application/json", b'{"images": ["a"]}', 400, "images.0: Base64"),
        ("application/json", b'{"images": []}', 422, "no image"),
        ("multipart/form-data", PART, 400, "boundary"),
        (FORM, b"--b--", 422, "no image"),
        (FORM, PART * 5 + b"--b--", 413, "more than 4 images"),
        ("image/png", b"x" * 140_000, 413, "more than 0.125 MB"),
    ],
)
def test_the_wrong_is_refused_with_the_way_out(
    echo: TestClient, kind: str, body: bytes, status: int, says: str
) -> None:
    answer = echo.post("/read", content=body, headers={"Content-Type": kind})
    assert (answer.status_code, says in answer.json()["detail"]) == (status, True), answer.text


@settings(deadline=None, max_examples=150)
@given(
    st.sampled_from(["application/json", FORM, 'multipart/form-data; boundary="b"']),
    st.lists(st.one_of(st.binary(), st.sampled_from([PART, b"--b", b"--b--", b"\r\n", b'{"images":[', b'"', b"]}"]))),
)
def test_whatever_is_sent_gives_words_or_a_refusal(kind: str, pieces: list[bytes]) -> None:
    client = TestClient(build_app(Echo(), SMALL))
    answer = client.post("/read", content=b"".join(pieces), headers={"Content-Type": kind})
    assert answer.status_code in (200, 400, 413, 415, 422)
    assert answer.json().get("detail") or 1 <= len(answer.json()["images"]) <= SMALL.images_per_request


def test_a_compressed_body_is_refused(echo: TestClient) -> None:
    answer = echo.post("/read", content=HOTEL, headers={**PNG, "Content-Encoding": "gzip"})
    assert (answer.status_code, "Content-Encoding" in answer.json()["detail"]) == (415, True)


def connect(service: str, length: str) -> socket.socket:
    """A connection on which a request with a body of that length was begun."""
    parts = urlsplit(service)
    connection = socket.create_connection((parts.hostname, parts.port), timeout=20)
    head = f"POST /read HTTP/1.1\r\nHost: x\r\nContent-Type: image/png\r\nContent-Length: {length}\r\n\r\n"
    connection.sendall(head.encode())
    return connection


def test_a_large_body_is_refused_before_it_is_sent(service: str) -> None:
    with connect(service, "100000000000") as connection:
        answer = connection.recv(65536)
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert b'{"detail":"the request has more than 0.125 MB' in answer


@pytest.mark.parametrize("length", ["", "-1", "1e9", "9" * 5000])
def test_a_length_that_is_none_is_refused(service: str, length: str) -> None:
    with connect(service, length) as connection:
        assert re.match(rb"HTTP/1.1 4\d\d ", connection.recv(65536))


def test_a_large_body_of_unknown_length_is_refused_when_it_is_too_much(service: str) -> None:
    answer = requests.post(f"{service}/read", iter([b"x" * 10_000] * 100), headers=PNG)
    assert (answer.status_code, "0.125 MB" in answer.json()["detail"]) == (413, True)


def test_more_requests_than_are_in_hand_are_asked_to_come_again(service: str) -> None:
    begun = [connect(service, "9") for _ in range(SMALL.requests_at_once)]
    statuses = {503: "", 200: ""}
    for status in statuses:  # which comes as soon as the service has seen what the others did
        for _ in range(100):
            answer = requests.post(f"{service}/read", HOTEL, headers=PNG)
            if answer.status_code == status:
                break
        assert answer.status_code == status
        if status == 503:
            assert answer.headers["Retry-After"] == "1"
            assert "2 requests are being answered" in answer.json()["detail"]
            assert requests.get(f"{service}/health").json() == {"status": "ready", "image_size": [16, 64]}
        for connection in begun:
            connection.close()


def test_a_token_is_asked_for_to_read_and_only_the_right_one_is_taken() -> None:
    client = TestClient(build_app(Echo(), SMALL, token="right"))
    for shown in (
        {},
        {"Authorization": "Bearer x"},
        {"Authorization": "Basic right"},
        {"Authorization": b"Bearer \xff"},
    ):
        refused = client.post("/read", content=b"x", headers={**PNG, **shown})
        assert (refused.status_code, refused.headers["WWW-Authenticate"]) == (401, "Bearer")
        assert "Authorization: Bearer" in refused.json()["detail"]
    answer = client.post("/read", content=b"x", headers={**PNG, "Authorization": "Bearer right"})
    assert answer.json() == {"images": [{"text": "x"}]}
    assert client.get("/").status_code == client.get("/health").status_code == 200
    assert client.get("/openapi.json").json()["paths"]["/read"]["post"]["security"]


def test_an_image_that_takes_too_long_is_asked_for_again() -> None:
    class Slow(Echo):
        async def read(self, images: Sequence[bytes], with_seen: bool) -> list[WordAnswer]:
            import asyncio

            await asyncio.sleep(60)
            return []

    answer = TestClient(build_app(Slow(), ServiceLimits(seconds_to_read=0.1))).post("/read", content=b"x", headers=PNG)
    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "1")
    assert "not read within 0.1 s" in answer.json()["detail"]


def test_the_page_and_its_script_ask_nothing_of_another_place(echo: TestClient) -> None:
    page = echo.get("/")
    assert page.headers["Content-Type"].startswith("text/html")
    assert "default-src 'none'" in page.headers["Content-Security-Policy"]
    assets = re.findall(r'(?:src|href)="(assets/[^"]+)"', page.text)
    assert len(assets) == 2
    for text in (page.text, *(echo.get(f"/{asset}").text for asset in assets)):
        assert not re.search(r"""(?:src|href|url)\s*[=(]\s*["']?(?:https?:)?//|@import|LIMITS""", text)


def test_the_schema_names_every_status_and_way_to_send(echo: TestClient) -> None:
    read = echo.get("/openapi.json").json()["paths"]["/read"]["post"]
    assert set(read["responses"]) == {"200", "400", "413", "415", "422", "503"}
    assert set(read["requestBody"]["content"]) == {"image/*", "multipart/form-data", "application/json"}
    assert echo.get("/docs").status_code == 200
