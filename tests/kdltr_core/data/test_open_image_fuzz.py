"""Whatever bytes come in, an RGB image or one kind of error comes out: no crash, no endless wait, bounded memory."""

from __future__ import annotations

import io
import subprocess
import sys
import zlib
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from kdltr_core.data.images import resize
from kdltr_core.data.open_image import UnreadableImage, open_image
from tests.kdltr_core.data.hostile_images import bombs, png, tiny_png_with_much_data

MOST_PIXELS = 1_000_000
# Ends a test that hangs; nothing here comes near it.
SECONDS = 300
MEGABYTES_BEYOND_THE_PICTURE = 40
EXTREMES = (b"\xff\xff\xff\xff", b"\0\0\0\0", b"\x7f\xff\xff\xff", b"\0\0\xff\xff")

pytestmark = pytest.mark.filterwarnings("ignore")


@cache
def originals() -> list[bytes]:
    """Real files of every format that is read, in its variants."""
    rng = np.random.default_rng(0)
    colour = Image.fromarray(rng.integers(0, 256, (24, 60, 3), dtype=np.uint8))
    smooth = Image.fromarray(np.linspace(0, 255, 24 * 60 * 3).reshape(24, 60, 3).astype(np.uint8))
    grey16 = Image.fromarray(rng.integers(0, 2**16, (24, 60), dtype=np.uint16))
    notes = Image.Exif()
    notes[274] = 6
    several: dict[str, Any] = {"save_all": True, "append_images": [smooth, colour]}
    variants: list[tuple[Image.Image, str, dict[str, Any]]] = [
        (colour, "PNG", {"exif": notes}),
        (smooth.convert("P"), "PNG", {"bits": 4, "transparency": 3}),
        (colour.convert("RGBA"), "PNG", {}),
        (colour.convert("LA"), "PNG", {}),
        (colour.convert("1"), "PNG", {}),
        (grey16, "PNG", {}),
        (colour, "PNG", several),
        (smooth, "JPEG", {"exif": notes}),
        (smooth, "JPEG", {"progressive": True, "optimize": True}),
        (smooth.convert("CMYK"), "JPEG", {}),
        (smooth.convert("L"), "JPEG", {"subsampling": 0}),
        (colour, "GIF", {}),
        (smooth.convert("P"), "GIF", {"transparency": 3, **several}),
        (colour, "WEBP", {"lossless": True, "exif": notes}),
        (smooth, "WEBP", {"quality": 50}),
        (colour, "WEBP", several),
        *((smooth, "TIFF", {"compression": kind}) for kind in ("tiff_lzw", "tiff_adobe_deflate", "packbits", "jpeg")),
        (colour.convert("1"), "TIFF", {"compression": "group4"}),
        (colour.convert("CMYK"), "TIFF", {}),
        (grey16, "TIFF", {"exif": notes}),
        (colour, "BMP", {}),
        (smooth.convert("P"), "BMP", {}),
        (colour, "PPM", {}),
    ]
    files = []
    for image, kind, options in variants:
        file = io.BytesIO()
        image.save(file, kind, **options)
        files.append(file.getvalue())
    return files


def check(data: bytes) -> bool:
    """Whether the bytes are read as an image. Raises: whatever else comes of them."""
    try:
        image = open_image(data, max_pixels=MOST_PIXELS)
    except UnreadableImage:
        return False
    assert image.mode == "RGB"
    assert 1 <= image.width * image.height <= MOST_PIXELS
    assert resize(image, (16, 64)).shape == (16, 64, 3)
    return True


def test_the_originals_themselves_are_read() -> None:
    assert all(check(data) for data in originals())


@settings(max_examples=150, deadline=None, derandomize=True)
@given(st.binary(max_size=400), st.sampled_from([b"", *{data[:n] for data in originals() for n in (4, 12, 30, 60)}]))
def test_random_bytes_after_the_beginning_of_any_format(data: bytes, head: bytes) -> None:
    check(head + data)


@st.composite
def damage(draw: st.DrawFn) -> bytes:
    """An original with some bytes overwritten, left out, put in or repeated, or cut short."""
    data = bytearray(draw(st.sampled_from(originals())))
    for _ in range(draw(st.integers(1, 4))):
        # Heads decide most: half of the damage is there.
        place = draw(st.one_of(st.integers(0, min(120, len(data))), st.integers(0, len(data))))
        length = draw(st.integers(0, 8))
        kind = draw(st.sampled_from(["overwrite", "extreme", "insert", "leave out", "repeat", "cut"]))
        if kind == "overwrite":
            data[place : place + length] = draw(st.binary(min_size=length, max_size=length))
        elif kind == "extreme":
            data[place : place + 4] = draw(
                st.sampled_from([b"\xff" * 4, b"\0" * 4, b"\x7f\xff\xff\xff", b"\0\0\xff\xff"])
            )
        elif kind == "insert":
            data[place:place] = draw(st.binary(max_size=40))
        elif kind == "leave out":
            del data[place : place + 5 * length]
        elif kind == "repeat":
            data[place:place] = data[place : place + 30 * length]
        else:
            del data[place:]
    return bytes(data)


@settings(max_examples=400, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
@given(damage())
def test_damaged_files(data: bytes) -> None:
    check(data)


@pytest.mark.long
@settings(max_examples=20_000, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(damage())
def test_many_damaged_files(data: bytes) -> None:
    check(data)


@pytest.mark.parametrize("bomb", bombs())
def test_a_bomb_is_refused(bomb: str) -> None:
    with pytest.raises(UnreadableImage):
        open_image(bombs()[bomb])


def test_what_follows_the_pixels_is_not_unpacked() -> None:
    assert (np.asarray(open_image(tiny_png_with_much_data())) == 0).all()


OPEN_AND_WEIGH = """
import sys
from kdltr_core.data.open_image import UnreadableImage, open_image
from kdltr_core.data.images import resize

def peak():
    [line] = [line for line in open("/proc/self/status") if line.startswith("VmHWM")]
    return int(line.split()[1]) / 1024

before = peak()
for path in sys.argv[1:]:
    try:
        resize(open_image(path), (16, 64))
    except UnreadableImage:
        pass
print(peak() - before)
"""


def grown(*paths: Path) -> float:
    """MB by which opening these files one after the other lets a process of its own grow."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", OPEN_AND_WEIGH, *map(str, paths)],
        capture_output=True, text=True, check=True, timeout=SECONDS,
    )  # fmt: skip
    return float(done.stdout)


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="measured with Linux's means")
def test_bombs_take_no_memory(tmp_path: Path) -> None:
    paths = []
    for number, data in enumerate([*bombs().values(), tiny_png_with_much_data()]):
        paths.append(tmp_path / f"{number}.png")
        paths[-1].write_bytes(data)
    assert grown(*paths) < MEGABYTES_BEYOND_THE_PICTURE
    # The scale itself: an image within the limit does take memory, 4 bytes a pixel, and is noticed.
    whole = tmp_path / "whole.png"
    whole.write_bytes(png(5000, 5000, zlib.compress(bytes(5001 * 5000), 9)))
    assert 90 < grown(whole) < 5000 * 5000 * 4 / 2**20 + MEGABYTES_BEYOND_THE_PICTURE
