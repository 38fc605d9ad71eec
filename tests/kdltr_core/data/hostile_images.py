"""Files that are made to do harm: small ones that claim to be large, or that unpack to much."""

from __future__ import annotations

import io
import struct
import zlib
from functools import cache

from PIL import Image

HUGE = 60_000


@cache
def bombs() -> dict[str, bytes]:
    """Some 100 bytes to 300 KB each; unpacked without a limit, each would take from 60 MB to many GB."""
    return {
        "a PNG that claims 60,000×60,000": png(HUGE, HUGE, b""),
        "a PNG that claims a little more than the limit": png(8001, 8000, zlib.compress(b"\0" * 1000)),
        "a PNG with notes that unpack to 1 GB": png(4, 4, zlib.compress(b"\0" * 20), num_notes=20),
        "a GIF that claims 60,000×60,000": gif(HUGE, HUGE),
        "a WebP that claims 16,384×16,384": webp(2**14, 2**14),
        "a WebP that claims 16,777,216×255": webp(2**24, 255),
        "a TIFF that claims 60,000×60,000": tiff(HUGE, HUGE, 256),
        "a TIFF with one tile of 40,000×40,000": tiff(10, 10, 40_000),
        "a BMP that claims 60,000×60,000": bmp(HUGE, HUGE),
        "a BMP of negative height": bmp(100, -(2**31)),
        "a PPM that claims 60,000×60,000": b"P6 60000 60000 255\n",
        "a PGM that claims 10^30 columns": b"P5 1" + b"0" * 30 + b" 1 255\n",
    }


@cache
def tiny_png_with_much_data() -> bytes:
    """A whole 100×100 image, black, followed in its data by 150 MB of zeros."""
    return png(100, 100, zlib.compress(b"\0" * 150_000_000, 9))


def png(width: int, height: int, data: bytes, num_notes: int = 0) -> bytes:
    """Grey, 8 bits. Args: num_notes: compressed texts, each of 50 MB."""
    note = _chunk(b"zTXt", b"a\0\0" + zlib.compress(b"\0" * 50_000_000, 9)) if num_notes else b""
    return b"".join(
        (
            b"\x89PNG\r\n\x1a\n",
            _chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)),
            note * num_notes,
            _chunk(b"IDAT", data),
            _chunk(b"IEND", b""),
        )
    )


def gif(width: int, height: int) -> bytes:
    file = io.BytesIO()
    Image.new("P", (1, 1)).save(file, "GIF")
    data = bytearray(file.getvalue())
    data[6:10] = struct.pack("<HH", width, height)
    return bytes(data)


def webp(width: int, height: int) -> bytes:
    """An animation of one small frame on a canvas of this size."""
    file = io.BytesIO()
    Image.new("RGB", (16, 16), "red").save(file, "WEBP", lossless=True)
    frame = bytes(6) + _three(15) + _three(15) + _three(100) + b"\0" + file.getvalue()[12:]
    body = b"WEBP" + _riff(b"VP8X", b"\x02\0\0\0" + _three(width - 1) + _three(height - 1))
    body += _riff(b"ANIM", bytes(6)) + _riff(b"ANMF", frame)
    return b"RIFF" + struct.pack("<I", len(body)) + body


def tiff(width: int, height: int, tile: int) -> bytes:
    """Grey, in deflated square tiles, of which there is one."""
    data = zlib.compress(bytes(2_000_000))
    tags = [(256, width), (257, height), (258, 8), (259, 8), (262, 1), (277, 1)]
    tags += [(322, tile), (323, tile), (324, 200), (325, len(data))]
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags)
    head = b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + bytes(4)
    return head.ljust(200, b"\0") + data


def bmp(width: int, height: int) -> bytes:
    head = b"BM" + struct.pack("<IHHI", 200, 0, 0, 54)
    return head + struct.pack("<IiiHHIIiiII", 40, width, height, 1, 24, 0, 0, 0, 0, 0, 0) + bytes(100)


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def _riff(kind: bytes, data: bytes) -> bytes:
    return kind + struct.pack("<I", len(data)) + data + bytes(len(data) % 2)


def _three(number: int) -> bytes:
    return struct.pack("<I", number)[:3]
