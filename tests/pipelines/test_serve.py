"""A whole reading service, with replicas of Ray Serve: it answers, it bears what is thrown at it, and it ends."""

from __future__ import annotations

import gzip
import os
import random
import signal
import struct
import subprocess
import sys
import threading
import time
import uuid
import zlib
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
import requests
from PIL import Image

from benchmarks.load import Load, ask, service_process
from pipelines.serve import open_port
from pipelines.service.options import ServeOptions, ServiceLimits
from tests.service import encoded, word_picture

WORDS = ("HOTEL", "1984", "Espresso", "EXIT")
IMAGES = [encoded(word_picture(word)) for word in WORDS]
PNG = {"Content-Type": "image/png"}
TOKEN = "a token of 30 random characters"
SHOWN = {"Authorization": f"Bearer {TOKEN}"}
MEGABYTE = 2**20
# Two images of the limit's pixels at a time: three bytes a pixel as they are decoded, as many again as RGB, or four
# and a copy with an alpha channel; and what the allocator keeps.
MOST_MEMORY = 2 * 2_000_000 * 20 + 300 * MEGABYTE


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (ServeOptions("x", replicas=0), "--replicas is 0"),
        (ServeOptions("x", cpus_per_replica=0), "--cpus-per-replica is 0"),
        (ServeOptions("x", gpus_per_replica=-1), "--gpus-per-replica is -1"),
        (ServeOptions("x.onnx", gpus_per_replica=1), "read on the CPU"),
        (ServeOptions("x", token="two\nlines"), "--token has characters"),
        (ServeOptions("x", limits=ServiceLimits(megapixels=0)), "--limits.megapixels is 0"),
        (ServeOptions("x", limits=ServiceLimits(seconds_to_read=float("nan"))), "--limits.seconds-to-read is nan"),
    ],
)
def test_an_option_that_lets_nothing_through_is_refused(options: ServeOptions, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        options.check()


@pytest.mark.parametrize("extra", ["serve", "detect"])
def test_without_its_extra_the_way_out_is_said(extra: str, monkeypatch: pytest.MonkeyPatch) -> None:
    there = (lambda name: name != "rapidocr" or None) if extra == "detect" else lambda name: None
    monkeypatch.setattr("pipelines.service.options.find_spec", there)
    with pytest.raises(ValueError, match=rf"pip install 'kdltr\[{extra}\]'"):
        ServeOptions("x", detect=True).check()


def test_a_port_that_is_taken_is_said() -> None:
    with pytest.raises(ValueError, match=r"port 70000 of 127\.0\.0\.1 cannot be opened .* give another --port"):
        open_port("127.0.0.1", 70000)


@pytest.fixture(scope="module")
def mark() -> str:
    """In the environment of the service's processes and of those that they start."""
    return uuid.uuid4().hex


def environment(**more: str) -> dict[str, str]:
    return {k: v for k, v in os.environ.items() if k != "RAY_ADDRESS"} | {"OMP_NUM_THREADS": "1"} | more


@pytest.fixture(scope="module")
def service(student: Path, mark: str) -> Iterator[str]:
    words = [str(student), "--replicas", "2", "--cpus-per-replica", "0.5", "--max-batch", "8"]
    words += ["--limits.megapixels", "2", "--limits.body-megabytes", "2"]
    with service_process(words, environment(KDLTR_TOKEN=TOKEN, KDLTR_TEST=mark)) as address:
        yield address


def processes(mark: str, name: str = "") -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get("KDLTR_TEST") == mark and name in " ".join(process.cmdline()):
                found.append(process)
        except psutil.Error:
            continue
    return found


def read(service: str, body: bytes, **headers: str) -> requests.Response:
    return requests.post(f"{service}/read", body, headers={**PNG, **SHOWN, **headers}, timeout=120)


def words_of(service: str) -> list[str]:
    return [read(service, image).json()["images"][0]["text"] for image in IMAGES]


@pytest.mark.long
def test_replicas_read_what_many_clients_send(service: str) -> None:
    assert words_of(service) == list(WORDS)
    form = [("images", (f"{word}.png", image)) for word, image in zip(WORDS, IMAGES, strict=True)]
    together = requests.post(f"{service}/read?seen=png", files=form, headers=SHOWN, timeout=120).json()["images"]
    assert [(entry["name"], entry["text"]) for entry in together] == [(f"{word}.png", word) for word in WORDS]
    assert requests.get(f"{service}/health", timeout=20).json() == {"status": "ready", "image_size": [16, 64]}
    assert requests.post(f"{service}/read", IMAGES[0], headers=PNG, timeout=20).status_code == 401
    load = ask(service, IMAGES, 16, 2, TOKEN)
    assert load.num_failed == 0
    assert len(load.latencies) >= load.clients


def hostile() -> Iterator[tuple[str, bytes]]:
    """Content type and body of what nobody should send."""
    chance = random.Random(0)
    good = [encoded(word_picture("HOTEL"), kind) for kind in ("PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP")]
    for mode, size in (("RGB", (1, 1)), ("L", (100_000, 1)), ("1", (9_000, 9_000)), ("RGBA", (1400, 1400))):
        yield "image/png", encoded(Image.new(mode, size))
    for mode in ("CMYK", "I;16", "LA", "P", "1"):
        yield "image/tiff", encoded(Image.new(mode, (64, 16)), "TIFF")
    yield "image/svg+xml", b'<svg xmlns="http://www.w3.org/2000/svg"><text>' + b"A" * 9000 + b"</text></svg>"
    yield "image/png", png_that_says(60_000, 60_000)
    yield "image/png", png_that_says(1000, 1000, zlib.compress(b"\0" * (50 * MEGABYTE), 9))
    yield "image/png", gzip.compress(b"\0" * 20 * MEGABYTE)
    yield "image/png", b"x" * 3 * MEGABYTE
    for data in good:
        for kind in ("image/png", "text/html", "multipart/form-data; boundary=x", "application/json"):
            yield kind, data
        for _ in range(12):
            broken = bytearray(data)
            for _ in range(chance.randrange(1, 40)):
                broken[chance.randrange(len(broken))] = chance.randrange(256)
            yield "image/png", bytes(broken[: chance.randrange(1, len(broken))] if chance.random() < 0.4 else broken)
    form = requests.Request("POST", "http://x/", files={"images": ("a.png", good[0])}).prepare()
    for _ in range(12):
        yield form.headers["Content-Type"], form.body[: chance.randrange(len(form.body))]
    yield "application/json", b'{"images": [' + b'"AAAA",' * 200_000 + b'"AAAA"]}'
    yield "application/json", b"[" * MEGABYTE


def png_that_says(width: int, height: int, data: bytes = b"") -> bytes:
    """A PNG whose header says a size that its data need not have."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


@pytest.mark.long
def test_whatever_is_sent_is_answered_by_a_word_or_a_refusal_and_costs_bounded_memory(service: str, mark: str) -> None:
    watched = processes(mark, "ServeReplica") + processes(mark, "serve.py")
    assert len(watched) == 3
    before = {process: process.memory_info().rss for process in watched}
    peak = dict(before)
    ended = threading.Event()

    def watch() -> None:
        while not ended.wait(0.05):
            for process in before:
                peak[process] = max(peak[process], process.memory_info().rss)

    watcher = threading.Thread(target=watch)
    watcher.start()
    statuses = set()
    try:
        for kind, body in hostile():
            answer = read(service, body, **{"Content-Type": kind})
            statuses.add(answer.status_code)
            assert answer.status_code in (200, 400, 413, 415, 422), (kind, body[:40], answer.text)
            assert "images" in answer.json() or "detail" in answer.json()
            assert str(Path(__file__).parents[2]) not in answer.text
    finally:
        ended.set()
        watcher.join()
    assert statuses == {200, 400, 413, 415, 422}
    assert [process for process in before if not process.is_running()] == []
    for process, bytes_before in before.items():
        assert peak[process] - bytes_before < MOST_MEMORY
    assert words_of(service) == list(WORDS)


@pytest.mark.long
def test_a_replica_that_is_killed_costs_no_answer_and_is_replaced(service: str, mark: str) -> None:
    killed = processes(mark, "ServeReplica")[0]
    loads: list[Load] = []
    clients = threading.Thread(target=lambda: loads.append(ask(service, IMAGES, 4, 12, TOKEN)))
    clients.start()
    time.sleep(3)
    killed.send_signal(signal.SIGKILL)
    clients.join()
    assert loads[0].num_failed == 0
    assert len(loads[0].latencies) > 0
    until = time.monotonic() + 180
    while len(processes(mark, "ServeReplica")) < 2 and time.monotonic() < until:
        time.sleep(1)
    replicas = {process.pid for process in processes(mark, "ServeReplica")}
    assert len(replicas - {killed.pid}) == 2
    assert words_of(service) == list(WORDS)


@pytest.mark.long
def test_an_only_replica_that_hangs_is_replaced_within_seconds(student: Path) -> None:
    mark = uuid.uuid4().hex
    with service_process([str(student)], environment(KDLTR_TEST=mark)) as address:
        assert words_of(address) == list(WORDS)
        (hung,) = processes(mark, "ServeReplica")
        hung.send_signal(signal.SIGSTOP)
        start = time.monotonic()
        while requests.post(f"{address}/read", IMAGES[0], headers=PNG, timeout=120).status_code != 200:
            time.sleep(0.5)
        assert time.monotonic() - start < 60


@pytest.mark.long
@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_ends_the_service_and_all_that_it_started(student: Path, sent: signal.Signals) -> None:
    mark = uuid.uuid4().hex
    command = [sys.executable, "pipelines/serve.py", str(student), "--port", "0", "--host", "0.0.0.0"]
    service = subprocess.Popen(command, env=environment(KDLTR_TEST=mark), stderr=subprocess.PIPE, text=True)
    said = []
    for line in service.stderr:
        said.append(line)
        if "Ctrl-C ends it" in line:
            break
    assert "WARNING: anyone who reaches 0.0.0.0 can use this service; give --token" in "".join(said)
    assert len(processes(mark)) > 2
    service.send_signal(sent)
    _, rest = service.communicate(timeout=120)
    assert (service.returncode, rest.strip()) == (0, "ending the replicas …")
    until = time.monotonic() + 30
    while processes(mark) and time.monotonic() < until:
        time.sleep(0.5)
    assert processes(mark) == []


@pytest.mark.long
@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["nowhere"], "there is no model, file or folder 'nowhere'"),
        (["{student}", "--replicas", "4000"], "give fewer --replicas"),
        (["{student}", "--gpus-per-replica", "500"], "GPUs"),
    ],
)
def test_what_cannot_be_served_is_one_sentence_and_code_2(student: Path, words: list[str], says: str) -> None:
    command = [sys.executable, "pipelines/serve.py", *(word.format(student=student) for word in words), "--port", "0"]
    ended = subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=300)
    last = ended.stderr.splitlines()[-1]
    assert (ended.returncode, last.startswith("error: "), says in last) == (2, True, True), last


@pytest.mark.long
@pytest.mark.filterwarnings("ignore:Using extra keyword arguments")  # Ray's own
def test_on_a_cluster_that_was_there_replicas_are_spread_and_only_they_are_ended(student: Path) -> None:
    import ray
    from ray import serve
    from ray.cluster_utils import Cluster

    node = {"num_cpus": 1, "object_store_memory": 128 * MEGABYTE, "include_dashboard": False}
    cluster = Cluster(initialize_head=True, head_node_args=node)
    try:
        cluster.add_node(**node)
        with service_process([str(student), "--replicas", "2"], environment(RAY_ADDRESS=cluster.address)) as address:
            ray.init(address=cluster.address, log_to_driver=False)
            (running,) = serve.status().applications.values()
            (deployment,) = running.deployments.values()
            assert deployment.replica_states == {"RUNNING": 2}
            assert words_of(address) == list(WORDS)
        assert serve.status().applications == {}
        assert sum(found["Alive"] for found in ray.nodes()) == 2
    finally:
        ray.shutdown()
        cluster.shutdown()
