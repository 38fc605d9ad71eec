"""A whole reading service, with replicas of Ray Serve: it answers, it bears what is thrown at it, and it ends."""

from __future__ import annotations

import gzip
import io
import itertools
import os
import random
import signal
import struct
import subprocess
import sys
import threading
import time
import uuid
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
import requests
from PIL import Image

from benchmarks.load import Load, ask, compare
from benchmarks.load_table import to_markdown
from benchmarks.process import service_process
from pipelines.serve import ServeOptions
from pipelines.service.limits import ServiceLimits
from tests.service import encoded, make_student, word_picture

WORDS = ("HOTEL", "1984", "Espresso", "EXIT")
PNG = {"Content-Type": "image/png"}
TOKEN = "a token of 30 random characters"
SHOWN = {"Authorization": f"Bearer {TOKEN}"}
MEGABYTE = 2**20
# Two images of the limit's pixels at a time: three bytes a pixel as they are unpacked, as many again as RGB, or four
# and a copy with an alpha channel; and what the allocator keeps.
MOST_MEMORY = 2 * 2_000_000 * 20 + 300 * MEGABYTE


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (ServeOptions("x", replicas=0), "--replicas is 0"),
        (ServeOptions("x", max_batch=0), "--max-batch is 0"),
        (ServeOptions("x", cpus_per_replica=0), "--cpus-per-replica is 0"),
        (ServeOptions("x", gpus_per_replica=-1), "--gpus-per-replica is -1"),
        (ServeOptions("x", token="two\nlines"), "--token has characters"),
        (ServeOptions("x", limits=ServiceLimits(megapixels=0)), "--limits.megapixels is 0"),
        (ServeOptions("x", limits=ServiceLimits(seconds_to_read=float("nan"))), "--limits.seconds-to-read is nan"),
        (ServeOptions("x", limits=ServiceLimits(body_megabytes=100)), "--limits.megabytes-at-once is 64"),
    ],
)
def test_an_option_that_lets_nothing_through_is_refused(options: ServeOptions, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        options.check()


def test_a_port_that_is_taken_is_said_before_anything_is_started() -> None:
    with pytest.raises(ValueError, match=r"port 70000 of 127\.0\.0\.1 cannot be opened .* give another --port"):
        serve_in_this_process("--port", "70000")


def serve_in_this_process(*words: str) -> None:
    from pipelines.serve import main

    before = sys.argv
    sys.argv = ["serve.py", "nowhere", *words]
    try:
        main()
    finally:
        sys.argv = before


def test_the_table_of_a_load_test_has_rates_and_percentiles_of_what_was_answered() -> None:
    import numpy as np

    quick = Load.joined([Load(8, np.array([0.1, 0.2, 0.3]), 0, 1.0), Load(8, np.array([0.2]), 1, 1.0)])
    slow = Load(8, np.array([0.5, 0.5]), 0, 2.0)
    rows = to_markdown({"batches": [quick], "one at a time": [slow]}).splitlines()[2:]
    assert rows[0].startswith("| 8 | batches | 2.0 | × 2.00 | 200 |")
    assert rows[0].endswith("| 1 |")
    assert rows[1] == "| 8 | one at a time | 1.0 |  | 500 | 500 | 500 | 0 |"


@pytest.fixture(scope="module")
def student(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_student(tmp_path_factory.mktemp("run"))


@pytest.fixture(scope="module")
def mark() -> str:
    """In the environment of the service's processes and of those that they start."""
    return uuid.uuid4().hex


@pytest.fixture(scope="module")
def service(student: Path, mark: str) -> Iterator[str]:
    environment = {**os.environ, "KDLTR_TOKEN": TOKEN, "OMP_NUM_THREADS": "1", "KDLTR_TEST": mark}
    environment.pop("RAY_ADDRESS", None)
    words = [str(student), "--replicas", "2", "--cpus-per-replica", "0.5", "--max-batch", "8"]
    words += ["--limits.megapixels", "2", "--limits.seconds-to-send", "3", "--limits.body-megabytes", "2"]
    with service_process(words, environment) as address:
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


@pytest.mark.long
def test_replicas_read_what_many_clients_send(service: str) -> None:
    images = [encoded(word_picture(word)) for word in WORDS]
    assert [read(service, image).json()["images"][0]["text"] for image in images] == list(WORDS)
    form = [("images", (f"{word}.png", image)) for word, image in zip(WORDS, images, strict=True)]
    together = requests.post(f"{service}/read?seen=png", files=form, headers=SHOWN, timeout=120).json()["images"]
    assert [entry["text"] for entry in together] == list(WORDS)
    assert [entry["name"] for entry in together] == [f"{word}.png" for word in WORDS]
    assert requests.get(f"{service}/health", timeout=20).json() == {"status": "ready", "image_size": [16, 64]}
    assert requests.post(f"{service}/read", images[0], headers=PNG, timeout=20).status_code == 401
    for load in compare({"it": service}, images, [1, 16], 2, 1, lambda done, total: None, token=TOKEN)["it"]:
        assert load.num_failed == 0
        assert len(load.latencies) >= load.clients


def hostile() -> Iterator[tuple[str, bytes]]:
    """Content type and body of what nobody should send."""
    chance = random.Random(0)
    good = {kind: encoded(word_picture("HOTEL"), kind) for kind in ("PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP")}
    yield "image/png", encoded(Image.new("RGB", (1, 1)))
    yield "image/png", encoded(Image.new("L", (100_000, 1)))
    yield "image/png", encoded(Image.new("1", (1, 65_000)))
    yield "image/png", encoded(Image.new("1", (9_000, 9_000)))
    yield "image/gif", encoded(Image.new("P", (1400, 1400)), "GIF")
    yield "image/svg+xml", b'<svg xmlns="http://www.w3.org/2000/svg"><text>' + b"A" * 9000 + b"</text></svg>"
    yield "image/png", png_that_says(60_000, 60_000)
    yield "image/png", png_that_says(1000, 1000, zlib.compress(b"\0" * (50 * MEGABYTE), 9))
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as packed:
        packed.writestr("a.png", b"\0" * 20 * MEGABYTE)
    yield "application/zip", archive.getvalue()
    yield "image/png", archive.getvalue()
    yield "image/png", gzip.compress(b"\0" * 20 * MEGABYTE)
    for mode in ("CMYK", "I;16", "LA", "P", "1", "RGBA"):
        yield "image/tiff", encoded(Image.new(mode, (64, 16)), "TIFF")
    for kind, data in good.items():
        yield f"image/{kind.lower()}", data
        yield "text/html", data
        yield "multipart/form-data; boundary=x", data
        yield "application/json", data
        for _ in range(12):
            broken = bytearray(data)
            for _ in range(chance.randrange(1, 40)):
                broken[chance.randrange(len(broken))] = chance.randrange(256)
            yield "image/png", bytes(broken[: chance.randrange(1, len(broken))] if chance.random() < 0.4 else broken)
    for size in (0, 1, 7, 64, 5000, MEGABYTE):
        yield "image/jpeg", chance.randbytes(size)
        yield "application/json", b'{"images": ["' + chance.randbytes(size) + b'"]}'
    form = requests.Request("POST", "http://x/", files={"images": ("a.png", good["PNG"])}).prepare()
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
    replicas = processes(mark, "ServeReplica")
    doors = processes(mark, "serve.py")
    assert len(replicas) == 2
    assert len(doors) == 1
    before = {process: process.memory_info().rss for process in replicas + doors}
    peak = dict(before)
    ended = threading.Event()

    def watch() -> None:
        while not ended.wait(0.05):
            for process in before:
                peak[process] = max(peak[process], process.memory_info().rss)

    watcher = threading.Thread(target=watch)
    watcher.start()
    statuses = []
    try:
        for kind, body in hostile():
            answer = read(service, body, **{"Content-Type": kind})
            statuses.append(answer.status_code)
            assert answer.status_code in (200, 400, 413, 415, 422), (kind, body[:40], answer.text)
            assert "images" in answer.json() or "error" in answer.json()
    finally:
        ended.set()
        watcher.join()
    assert {200, 400, 413, 415, 422} == set(statuses)
    assert [process for process in before if not process.is_running()] == []
    for process, bytes_before in before.items():
        assert peak[process] - bytes_before < MOST_MEMORY
    assert read(service, encoded(word_picture("HOTEL"))).json()["images"][0]["text"] == "HOTEL"


@pytest.mark.long
def test_a_replica_that_is_killed_costs_no_answer_and_is_replaced(service: str, mark: str) -> None:
    images = [encoded(word_picture(word)) for word in WORDS]
    killed = processes(mark, "ServeReplica")[0]
    loads: list[Load] = []
    clients = threading.Thread(target=lambda: loads.append(ask(service, images, 4, 12, TOKEN)))
    clients.start()
    time.sleep(3)
    killed.send_signal(signal.SIGKILL)
    clients.join()
    assert loads[0].num_failed == 0
    assert len(loads[0].latencies) > 0
    until = time.monotonic() + 180
    while len(processes(mark, "ServeReplica")) < 2 and time.monotonic() < until:
        time.sleep(1)
    assert killed.pid not in {process.pid for process in processes(mark, "ServeReplica")}
    assert len(processes(mark, "ServeReplica")) == 2
    for image, word in itertools.islice(itertools.cycle(zip(images, WORDS, strict=True)), 8):
        assert read(service, image).json()["images"][0]["text"] == word


@pytest.mark.long
@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_ends_the_service_and_all_that_it_started(student: Path, sent: signal.Signals) -> None:
    mark = uuid.uuid4().hex
    environment = {**os.environ, "KDLTR_TEST": mark, "OMP_NUM_THREADS": "1"}
    environment.pop("RAY_ADDRESS", None)
    command = [sys.executable, "pipelines/serve.py", str(student), "--port", "0", "--host", "0.0.0.0"]
    service = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)
    said = []
    for line in service.stderr:
        said.append(line)
        if "Ctrl-C ends it" in line:
            break
    assert "WARNING: whoever reaches 0.0.0.0 can use this service. Give --token" in "".join(said)
    assert len(processes(mark)) > 2
    service.send_signal(sent)
    _, rest = service.communicate(timeout=120)
    assert service.returncode == 0
    assert rest.strip() == "ending the replicas …"
    until = time.monotonic() + 30
    while processes(mark) and time.monotonic() < until:
        time.sleep(0.5)
    assert processes(mark) == []


@pytest.mark.long
@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["nowhere"], "nowhere is not a student"),
        (["{student}", "--replicas", "4000"], "give fewer --replicas"),
        (["{student}", "--gpus-per-replica", "500"], "GPUs"),
    ],
)
def test_what_cannot_be_served_is_one_sentence_and_code_2(student: Path, words: list[str], says: str) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    command = [sys.executable, "pipelines/serve.py", *(word.format(student=student) for word in words), "--port", "0"]
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert ended.returncode == 2
    assert ended.stderr.splitlines()[-1].startswith("error: ")
    assert says in ended.stderr.splitlines()[-1]


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
        environment = {**os.environ, "RAY_ADDRESS": cluster.address}
        with service_process([str(student), "--replicas", "2", "--cpus-per-replica", "1"], environment) as address:
            ray.init(address=cluster.address, log_to_driver=False)
            (running,) = serve.status().applications.values()
            (deployment,) = running.deployments.values()
            assert deployment.replica_states == {"RUNNING": 2}
            for word in WORDS:
                answer = requests.post(f"{address}/read", encoded(word_picture(word)), headers=PNG, timeout=60)
                assert answer.json()["images"][0]["text"] == word
        assert serve.status().applications == {}
        assert sum(found["Alive"] for found in ray.nodes()) == 2
    finally:
        ray.shutdown()
        cluster.shutdown()
