"""Bytes made to break a reader of images: each is an image within the limit or is refused, and memory is bounded."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from kdltr_core.data.images import MAX_PIXELS, UnreadableImage, open_image
from tests.kdltr_core.data.image_files import bombs, encode, whole_files

# Pixels that a mutated file may have before it is refused: 1 million take at most 12 MB.
LIMIT = 1_000_000
WHOLE = whole_files()
FEW = settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
# Whatever takes longer hangs: nothing here needs a hundredth of it.
SECONDS_TO_HANG = 600


@pytest.fixture(autouse=True)
def _pillow_may_grumble() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def open_or_refuse(data: bytes) -> None:
    try:
        image = open_image(data, max_pixels=LIMIT)
    except UnreadableImage:
        return
    assert image.mode == "RGB"
    assert 1 <= image.width * image.height <= LIMIT
    np.asarray(image).sum()


@st.composite
def mutated(draw: st.DrawFn, data: bytes) -> bytes:
    """A file with up to four of: bytes changed, cut out, doubled, put in, moved, or the end cut off."""
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, max(0, len(data) - 1)))
        length = draw(st.sampled_from([1, 1, 2, 4, 16, len(data)]))
        head, middle, tail = data[:start], data[start : start + length], data[start + length :]
        change = draw(st.sampled_from(["set", "cut", "double", "put", "move", "end"]))
        if change == "set":
            special = st.sampled_from([b"\0", b"\xff", b"\x7f\xff\xff\xff", b"\xff\xff\xff\xff"])
            new = draw(special | st.binary(min_size=1, max_size=4))
            data = head + new + data[start + len(new) :]
        elif change == "put":
            data = head + draw(st.binary(min_size=1, max_size=8)) + middle + tail
        else:
            data = {
                "cut": head + tail,
                "double": head + middle + middle + tail,
                "move": tail + head + middle,
                "end": head,
            }[change]
    return data


@pytest.mark.parametrize("kind", WHOLE)
@FEW
@given(st.data())
def test_mutated_files(kind: str, data: st.DataObject) -> None:
    open_or_refuse(data.draw(mutated(WHOLE[kind])))


MEGABYTE = 2**20
_CHILD = """
import json, sys, warnings
warnings.simplefilter("ignore")
from pathlib import Path
from kdltr_core.data.images import UnreadableImage, open_image

def peak():
    # In KiB. Not getrusage's: that begins at the peak of the process which started this one.
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM"))

open_image(Path(sys.argv[1]) / "first.png")
answers = {}
for path in sorted(Path(sys.argv[1]).glob("*.bomb")):
    before = peak()
    try:
        answer = "opened: %d x %d" % open_image(path).size
    except UnreadableImage as refusal:
        answer = refusal.reason
    answers[path.stem] = [answer, (peak() - before) * 1024]
json.dump(answers, sys.stdout)
"""


def answers_of_a_child(files: dict[str, bytes], folder: Path, address_space: int) -> dict[str, tuple[str, int]]:
    """What opening each file in a process of its own gave, and by how many bytes its peak of memory rose."""
    (folder / "first.png").write_bytes(WHOLE["png"])
    for name, data in files.items():
        (folder / f"{name}.bomb").write_bytes(data)
    done = subprocess.run(
        [sys.executable, "-c", _CHILD, str(folder)],
        stdout=subprocess.PIPE,
        check=True,
        timeout=SECONDS_TO_HANG,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (address_space, address_space)),
    )
    return json.loads(done.stdout)


def test_bombs_are_refused_by_what_they_say_and_cost_no_memory(tmp_path: Path) -> None:
    """60,000 × 60,000 pixels would take 10.8 GB; the process may have 4 GB, and takes a few megabytes for each."""
    files = bombs()
    assert max(map(len, files.values())) < 2000
    answers = answers_of_a_child(files, tmp_path, 4096 * MEGABYTE)
    assert set(answers) == set(files)
    for name, (answer, growth) in answers.items():
        assert not answer.startswith("opened"), name
        assert growth < 32 * MEGABYTE, name
    said = [answer for answer, _ in answers.values()]
    assert sum("limit" in answer for answer in said) >= len(said) - 1  # one of them has a strip cut short instead


@pytest.mark.long
def test_an_image_at_the_limit_costs_at_most_20_bytes_a_pixel(tmp_path: Path) -> None:
    """What --max-pixels of predict.py says."""
    size = (8000, MAX_PIXELS // 8000)
    turned = Image.Exif()
    turned[274] = 6
    files = {
        "rgb": encode(Image.new("RGB", size), "PNG"),
        "rgba": encode(Image.new("RGBA", size), "PNG"),
        "webp": encode(Image.new("RGBA", size), "WEBP", lossless=True, method=0, quality=0, exif=turned),
        "jpeg": encode(Image.new("CMYK", size), "JPEG"),
        "16-bit": encode(Image.fromarray(np.zeros(size[::-1], np.uint16)), "PNG"),
    }
    for name, data in files.items():
        (folder := tmp_path / name).mkdir()
        [(answer, growth)] = answers_of_a_child({name: data}, folder, 16_384 * MEGABYTE).values()
        assert answer.startswith("opened: 8000 x 8000")
        # Less than its pixels would mean that nothing was measured.
        assert 3 * MAX_PIXELS <= growth <= 20.5 * MAX_PIXELS, name
