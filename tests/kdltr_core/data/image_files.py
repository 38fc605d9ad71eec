"""Image files for tests: whole ones of every format, and small ones that say they are huge."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
from PIL import Image

RED, GREEN, BLUE, WHITE, BLACK = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255), (0, 0, 0)


def encode(image: Image.Image, kind: str, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def noise(height: int = 12, width: int = 30, seed: int = 0) -> np.ndarray:
    """(height, width, 3) uint8, no two corners alike."""
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def whole_files() -> dict[str, bytes]:
    """A small file of every format, and of the kinds that are unpacked by code of their own."""
    image = Image.fromarray(noise())
    grey = image.convert("L")
    frames = [Image.fromarray(noise(seed=seed)) for seed in (1, 2)]
    exif = Image.Exif()
    exif[274] = 6
    return {
        "png": encode(image, "PNG", exif=exif),
        "png-16-bit": encode(Image.fromarray(noise()[..., 0].astype(np.uint16) * 257), "PNG"),
        "png-palette": encode(image.quantize(16), "PNG", transparency=3),
        "png-animated": encode(image, "PNG", save_all=True, append_images=frames),
        "jpeg": encode(image, "JPEG", exif=exif),
        "jpeg-progressive": encode(image, "JPEG", progressive=True),
        "jpeg-cmyk": encode(image.convert("CMYK"), "JPEG"),
        "gif": encode(image, "GIF", transparency=2),
        "gif-animated": encode(image, "GIF", save_all=True, append_images=frames),
        "webp": encode(image, "WEBP", exif=exif),
        "webp-lossless": encode(image.convert("RGBA"), "WEBP", lossless=True),
        "webp-animated": encode(image, "WEBP", save_all=True, append_images=frames),
        "tiff": encode(image, "TIFF", exif=exif),
        "tiff-lzw": encode(image, "TIFF", compression="tiff_lzw"),
        "tiff-deflate": encode(image, "TIFF", compression="tiff_adobe_deflate"),
        "tiff-jpeg": encode(image, "TIFF", compression="jpeg"),
        "tiff-fax": encode(grey.convert("1"), "TIFF", compression="group4"),
        "tiff-float": encode(Image.fromarray((noise()[..., 0] / 255).astype(np.float32)), "TIFF"),
        "bmp": encode(image, "BMP"),
        "bmp-palette": encode(image.quantize(16), "BMP"),
        "ppm": encode(image, "PPM"),
        "ppm-text": b"P3 2 1 255\n1 2 3 4 5 6\n",
    }


def png_that_says(width: int, height: int) -> bytes:
    """A PNG of a few bytes whose header says how large it is."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    start = zlib.compress(bytes(100_000))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", start) + chunk(b"IEND", b"")


def bombs() -> dict[str, bytes]:
    """Small files that would be gigabytes of pixels."""
    dot = Image.new("RGB", (4, 4))
    gif, frame, jpeg, bmp = (bytearray(encode(dot, kind)) for kind in ("GIF", "GIF", "JPEG", "BMP"))
    gif[6:10] = struct.pack("<HH", 65535, 65535)
    in_frame = frame.index(b"\x2c", 13) + 5
    frame[in_frame : in_frame + 4] = struct.pack("<HH", 65535, 65535)
    in_jpeg = jpeg.index(b"\xff\xc0") + 5
    jpeg[in_jpeg : in_jpeg + 4] = struct.pack(">HH", 65500, 65500)
    bmp[18:26] = struct.pack("<ii", 60000, 60000)
    return {
        "png": png_that_says(60_000, 60_000),
        "gif": bytes(gif),
        "gif, one frame": bytes(frame),
        "jpeg": bytes(jpeg),
        "bmp": bytes(bmp),
        "ppm": b"P6 60000 60000 255\n" + bytes(100),
        "tiff": _tiff((256, 60_000), (257, 60_000), (259, 1), (278, 60_000)),
        "tiff, one strip": _tiff((256, 8_000), (257, 10), (259, 8), (278, 4_000_000_000)),
        "tiff, one tile": _tiff((256, 10), (257, 10), (259, 8), (322, 60_000), (323, 60_000)),
    }


def _tiff(*tags: tuple[int, int]) -> bytes:
    """A grey TIFF with these tags, and a little data that is compressed zeros."""
    data = zlib.compress(bytes(100_000))
    tiled = any(tag == 322 for tag, _ in tags)
    where = ((324, -1), (325, len(data))) if tiled else ((273, -1), (279, len(data)))
    all_tags = sorted((*tags, (258, 8), (262, 1), (277, 1), *where))
    start = 8 + 2 + 12 * len(all_tags) + 4
    directory = b"".join(struct.pack("<HHII", tag, 4, 1, start if v < 0 else v) for tag, v in all_tags)
    return b"II*\0" + struct.pack("<IH", 8, len(all_tags)) + directory + bytes(4) + data
