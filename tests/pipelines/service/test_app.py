"""A reading service over HTTP: words for images, and for all else an answer that says the way out."""

from __future__ import annotations

import base64
import contextlib
import http.client
import io
import json
import re
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import pytest
import requests
from PIL import Image

from kdltr_core.inference.reader import load_student
from pipelines.service.limits import ServiceLimits
from tests.service import encoded, local_service, make_student, word_picture

SMALL = ServiceLimits(
    body_megabytes=0.125,
    images_per_request=4,
    megapixels=1,
    seconds_to_send=3,
    requests_at_once=2,
    megabytes_at_once=0.2,
    connections=20,
)
HOTEL = encoded(word_picture("HOTEL"))
PNG = {"Content-Type": "image/png"}


@pytest.fixture(scope="module")
def student(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_student(tmp_path_factory.mktemp("run"))


@pytest.fixture(scope="module")
def service(student: Path) -> Iterator[str]:
    with local_service(student, SMALL) as address:
        yield address


def connect(service: str) -> socket.socket:
    parts = urlsplit(service)
    return socket.create_connection((parts.hostname, parts.port), timeout=20)


def head_of(length: int) -> bytes:
    return f"POST /read HTTP/1.1\r\nHost: x\r\nContent-Type: image/png\r\nContent-Length: {length}\r\n\r\n".encode()


def said(connection: socket.socket) -> bytes:
    """All that comes until the service closes."""
    pieces = []
    with contextlib.suppress(ConnectionResetError):
        while piece := connection.recv(65536):
            pieces.append(piece)
    return b"".join(pieces)


def ask_until(status: int, service: str, body: bytes) -> requests.Response:
    """The first answer with that status, which comes as soon as the service has seen what other clients did."""
    for _ in range(100):
        with contextlib.suppress(requests.ConnectionError):
            answer = requests.post(f"{service}/read", body, headers=PNG)
            if answer.status_code == status:
                return answer
        time.sleep(0.02)
    raise AssertionError(f"no answer with status {status}, the last has {answer.status_code}: {answer.text}")


def test_the_three_ways_to_send_give_what_the_reader_reads(service: str, student: Path) -> None:
    words = ("HOTEL", "1984", "Espresso")
    files = [encoded(word_picture(word), kind) for word, kind in zip(words, ("PNG", "JPEG", "WEBP"), strict=True)]
    expected = load_student(student, "cpu")(files)
    assert [word.text for word in expected] == list(words)
    sent = {"images": [base64.b64encode(file).decode() for file in files]}
    by_json = requests.post(f"{service}/read", json=sent).json()["images"]
    by_form = requests.post(f"{service}/read", files=[("images", (f"{n}.png", f)) for n, f in enumerate(files)]).json()[
        "images"
    ]
    by_body = [requests.post(f"{service}/read", file, headers=PNG).json()["images"][0] for file in files]
    assert [entry.pop("name") for entry in by_form] == ["0.png", "1.png", "2.png"]
    assert by_json == by_form == by_body
    for word, entry in zip(expected, by_json, strict=True):
        assert entry["text"] == word.text
        np.testing.assert_allclose(entry["confidence"], word.confidence, atol=1e-4)
        np.testing.assert_allclose(entry["character_confidences"], word.character_confidences, atol=1e-4)


def test_the_pixels_that_the_recognizer_saw_are_shown_when_asked_for(service: str, student: Path) -> None:
    shown = requests.post(f"{service}/read?seen=png", HOTEL, headers=PNG).json()["images"][0]["seen"]
    seen = np.asarray(Image.open(io.BytesIO(base64.b64decode(shown))))
    np.testing.assert_array_equal(seen, load_student(student, "cpu").pixels(HOTEL))
    assert seen.shape == (16, 64, 3)


def test_an_unreadable_image_does_not_spoil_the_others(service: str) -> None:
    answer = requests.post(f"{service}/read", files=[("a", ("a.png", b"no image")), ("b", ("b.png", HOTEL))])
    assert answer.status_code == 200
    first, second = answer.json()["images"]
    assert first["name"] == "a.png"
    assert "cannot be read as an image" in first["error"]
    assert second["text"] == "HOTEL"
    alone = requests.post(f"{service}/read", b"no image", headers=PNG)
    assert alone.status_code == 422
    assert alone.json()["error"] == alone.json()["images"][0]["error"] == first["error"]


def test_an_image_of_too_many_pixels_is_refused_by_its_header(service: str) -> None:
    bomb = encoded(Image.new("1", (10_000, 10_000)))
    assert len(bomb) < 20_000
    answer = requests.post(f"{service}/read", bomb, headers=PNG)
    assert answer.status_code == 422
    assert "1000000 are the limit" in answer.json()["error"]


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", "/read", 405), ("POST", "/", 405), ("GET", "/no", 404), ("PUT", "/read", 405)],
)
def test_what_is_not_there_is_said_as_json(service: str, method: str, path: str, status: int) -> None:
    answer = requests.request(method, service + path)
    assert answer.status_code == status
    assert "/read" in answer.json()["error"]


def test_a_compressed_body_is_refused(service: str) -> None:
    answer = requests.post(f"{service}/read", HOTEL, headers={**PNG, "Content-Encoding": "gzip"})
    assert (answer.status_code, "Content-Encoding" in answer.json()["error"]) == (415, True)


def test_a_large_body_is_refused_before_it_is_sent(service: str) -> None:
    with connect(service) as connection:
        connection.sendall(b"POST /read HTTP/1.1\r\nHost: x\r\nContent-Type: image/png\r\n")
        connection.sendall(b"Content-Length: 100000000000\r\n\r\n")
        head = connection.recv(65536)
    assert head.startswith(b"HTTP/1.1 413 ")
    assert b'{"error":"the request has more than 0.125 MB' in head


@pytest.mark.parametrize("length", ["", "-1", "1e9", "9" * 5000])
def test_a_length_that_is_none_is_refused(service: str, length: str) -> None:
    with connect(service) as connection:
        connection.sendall(f"POST /read HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n\r\n".encode())
        assert re.match(rb"HTTP/1.1 4\d\d ", connection.recv(65536))


def test_a_large_body_of_unknown_length_is_refused_when_it_is_too_much(service: str) -> None:
    answer = requests.post(f"{service}/read", iter([b"x" * 10_000] * 100), headers=PNG)
    assert (answer.status_code, "0.125 MB" in answer.json()["error"]) == (413, True)


def test_clients_that_do_not_go_on_are_left(service: str) -> None:
    """Silent ones, and those that stop in a head, in a body, or in the head of a second request."""
    begun = {
        sent: connect(service)
        for sent in (
            b"",
            b"POST /read HTTP/1.1\r\nHos",
            head_of(9) + b"x",
            b"GET /health HTTP/1.1\r\nHost: x\r\n\r\nGET /hea",
        )
    }
    for sent, connection in begun.items():
        connection.sendall(sent)
    answers = [said(connection) for connection in begun.values()]
    assert answers[:2] == [b"", b""]
    assert answers[2].startswith(b"HTTP/1.1 408 ")
    assert answers[3].startswith(b"HTTP/1.1 200 ")
    assert answers[3].count(b"HTTP/1.1") == 1


def test_a_head_that_is_sent_drop_by_drop_is_not_waited_for(service: str) -> None:
    connection = connect(service)

    def drip() -> None:
        connection.sendall(b"POST /read HTTP/1.1\r\n")
        while True:
            connection.sendall(b"x: y\r\n")
            time.sleep(0.05)

    with pytest.raises(ConnectionError):
        drip()


def test_what_is_not_http_is_answered_as_json(service: str) -> None:
    with connect(service) as connection:
        connection.sendall(b"\x16\x03\x01 nonsense\r\n\r\n")
        answer = said(connection)
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert json.loads(answer.partition(b"\r\n\r\n")[2])["error"]


def test_more_requests_than_are_in_hand_are_asked_to_come_again(service: str) -> None:
    begun = [connect(service) for _ in range(SMALL.requests_at_once)]
    for connection in begun:
        connection.sendall(head_of(9))
    refused = ask_until(503, service, HOTEL)
    assert refused.headers["Retry-After"] == "1"
    assert "2 requests are in hand" in refused.json()["error"]
    for connection in begun:
        connection.close()
    assert ask_until(200, service, HOTEL).json()["images"][0]["text"] == "HOTEL"


def test_bodies_together_have_a_limit_too(service: str) -> None:
    with connect(service) as connection:
        connection.sendall(head_of(120_001) + b"x" * 120_000)
        assert "memory" in ask_until(503, service, b"x" * 100_000).json()["error"]
    assert "cannot be read as an image" in ask_until(422, service, b"x" * 100_000).json()["error"]


def test_more_connections_than_the_limit_are_refused(service: str) -> None:
    held = [connect(service) for _ in range(SMALL.connections)]
    answer = b""
    while not answer.startswith(b"HTTP/1.1 503 "):  # the service may not have seen the others yet
        with connect(service) as connection:
            answer = said(connection)
    for connection in held:
        connection.close()
    ask_until(200, service, HOTEL)
    assert requests.get(f"{service}/health").json() == {"status": "ready", "image_size": [16, 64]}


def test_a_token_is_asked_for_to_read_and_only_the_right_one_is_taken(student: Path) -> None:
    with local_service(student, token="Grüße 7".encode().hex()) as address:
        for shown in ({}, {"Authorization": "Bearer x"}, {"Authorization": "Basic " + "Grüße 7".encode().hex()}):
            refused = requests.post(f"{address}/read", HOTEL, headers={**PNG, **shown})
            assert (refused.status_code, refused.headers["WWW-Authenticate"]) == (401, "Bearer")
            assert "Authorization: Bearer" in refused.json()["error"]
        right = {**PNG, "Authorization": "Bearer " + "Grüße 7".encode().hex()}
        assert requests.post(f"{address}/read", HOTEL, headers=right).json()["images"][0]["text"] == "HOTEL"
        raw = http.client.HTTPConnection(urlsplit(address).netloc)
        raw.request("POST", "/read", HOTEL, {**PNG, "Authorization": b"Bearer \xff"})
        assert raw.getresponse().status == 401
        assert requests.get(address).status_code == requests.get(f"{address}/health").status_code == 200
        assert requests.get(f"{address}/openapi.json").json()["paths"]["/read"]["post"]["security"] == [{"token": []}]


def test_the_page_asks_nothing_of_another_place(service: str) -> None:
    answer = requests.get(service)
    assert answer.headers["Content-Type"].startswith("text/html")
    assert not re.search(r"""(?:src|href|url)\s*[=(]\s*["']?(?:https?:)?//|@import|LIMITS|/\* S""", answer.text)
    assert "default-src 'none'" in answer.headers["Content-Security-Policy"]


def test_the_schema_names_every_status_that_can_come(service: str) -> None:
    schema = requests.get(f"{service}/openapi.json").json()
    assert set(schema["paths"]["/read"]["post"]["responses"]) == {"200", "400", "408", "413", "415", "422", "503"}
    assert set(schema["paths"]["/read"]["post"]["requestBody"]["content"]) == {
        "image/*", "multipart/form-data", "application/json",
    }  # fmt: skip


def test_requests_at_the_same_time_each_get_their_own_word(student: Path) -> None:
    words = [f"{number}" for number in range(100, 116)]
    read: dict[str, str] = {}

    def ask(word: str) -> None:
        answer = requests.post(f"{address}/read", encoded(word_picture(word)), headers=PNG)
        read[word] = answer.json()["images"][0]["text"]

    with local_service(student) as address:
        threads = [threading.Thread(target=ask, args=(word,)) for word in words]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert read == {word: word for word in words}
