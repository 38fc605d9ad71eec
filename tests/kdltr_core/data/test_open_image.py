"""Any image comes out upright, in RGB, over white; what is none is refused with a reason."""

from __future__ import annotations

import io
import os
import pickle
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from kdltr_core.data.open_image import UnreadableImage, open_image

CELL = 16
COLOURS = [(200, 30, 40), (40, 190, 60), (30, 60, 210), (220, 200, 40), (120, 20, 130), (20, 20, 20)]

# By the standard's words: on which side of the upright picture the first stored row and the first stored column lie.
STORED_TO_UPRIGHT = {
    1: lambda stored: stored,  # top, left
    2: lambda stored: stored[:, ::-1],  # top, right
    3: lambda stored: stored[::-1, ::-1],  # bottom, right
    4: lambda stored: stored[::-1],  # bottom, left
    5: lambda stored: stored.swapaxes(0, 1),  # left, top
    6: lambda stored: stored.swapaxes(0, 1)[:, ::-1],  # right, top
    7: lambda stored: stored.swapaxes(0, 1)[::-1, ::-1],  # right, bottom
    8: lambda stored: stored.swapaxes(0, 1)[::-1],  # left, bottom
}
LOSSLESS: dict[str, dict[str, Any]] = {
    "PNG": {}, "BMP": {}, "TIFF": {"compression": "tiff_lzw"}, "WEBP": {"lossless": True, "exact": True}, "PPM": {},
}  # fmt: skip


def cells() -> np.ndarray:
    """Six flat colours, two rows of three: no turn or reflection of it is like another."""
    return np.array(COLOURS, np.uint8).reshape(2, 3, 3).repeat(CELL, 0).repeat(CELL, 1)


def encoded(image: Image.Image | np.ndarray, kind: str, **options: Any) -> bytes:
    image = Image.fromarray(image) if isinstance(image, np.ndarray) else image
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def pixels(source: Any, **options: Any) -> np.ndarray:
    image = open_image(source, **options)
    assert image.mode == "RGB"
    return np.asarray(image).astype(int)


@pytest.mark.parametrize("kind", LOSSLESS)
def test_pixels_of_a_lossless_file_are_its_pixels(kind: str, tmp_path: Path) -> None:
    data = encoded(cells(), kind, **LOSSLESS[kind])
    path = tmp_path / "wrong.svg"  # content counts, not the name
    path.write_bytes(data)
    for source in (data, path, str(path), Image.open(path), cells()):
        assert (pixels(source) == cells()).all()


@pytest.mark.parametrize("orientation", range(10))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_a_picture_is_turned_upright_by_its_exif_note(kind: str, orientation: int) -> None:
    notes = Image.Exif()
    notes[274] = orientation
    # libtiff itself writes no orientation beyond the standard's, so those files are not compressed.
    plain = kind == "TIFF" and orientation not in STORED_TO_UPRIGHT
    options = {"quality": 95} if kind == "JPEG" else {} if plain else LOSSLESS[kind]
    data = encoded(cells(), kind, exif=notes, **options)
    # 0 and 9 are not in the standard, and leave the picture as it is.
    expected = STORED_TO_UPRIGHT.get(orientation, STORED_TO_UPRIGHT[1])(cells()).astype(int)
    for source in (data, Image.open(io.BytesIO(data))):
        found = pixels(source)
        assert found.shape == expected.shape
        middles = (slice(CELL // 2, None, CELL),) * 2
        assert np.abs(found[middles] - expected[middles]).max() <= (8 if kind == "JPEG" else 0)


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
def test_damaged_exif_notes_do_not_matter() -> None:
    data = encoded(cells(), "PNG", exif=b"Exif\0\0MM\0*\xff\xff\xff\xff")
    assert (pixels(data) == cells()).all()


def over_white(colour: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    share = alpha[..., None] / 255
    return colour * share + 255 * (1 - share)


def with_alpha() -> np.ndarray:
    alpha = np.arange(0, 256, 255 // 5, dtype=np.uint8).reshape(2, 3).repeat(CELL, 0).repeat(CELL, 1)
    return np.dstack([cells(), alpha])


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "WEBP", "array"])
def test_what_is_transparent_shows_white(kind: str) -> None:
    rgba = with_alpha()
    expected = over_white(rgba[..., :3], rgba[..., 3])
    source = rgba if kind == "array" else encoded(rgba, kind, **LOSSLESS[kind])
    assert np.abs(pixels(source) - expected).max() <= 1
    grey = np.ascontiguousarray(rgba[..., [0, 3]])
    expected = over_white(rgba[..., [0, 0, 0]], rgba[..., 3])
    for image in (grey, Image.fromarray(grey), *([encoded(grey, kind)] if kind == "PNG" else [])):
        assert np.abs(pixels(image) - expected).max() <= 1
    premultiplied = Image.fromarray(rgba).convert("RGBa")
    assert np.abs(pixels(premultiplied) - over_white(rgba[..., :3], rgba[..., 3])).max() <= 3


@pytest.mark.parametrize("kind", ["PNG", "GIF"])
def test_a_transparent_colour_of_a_palette_shows_white(kind: str) -> None:
    image = Image.fromarray(np.arange(6, dtype=np.uint8).reshape(2, 3)).convert("P")
    image.putpalette([channel for colour in COLOURS for channel in colour])
    expected = np.array(COLOURS).reshape(2, 3, 3)
    assert (pixels(encoded(image, kind)) == expected).all()
    expected[1, 0] = 255
    assert (pixels(encoded(image, kind, transparency=3)) == expected).all()


def test_a_transparent_colour_without_palette_shows_white() -> None:
    expected = cells().astype(int)
    expected[:CELL, :CELL] = 255
    assert (pixels(encoded(cells(), "PNG", transparency=COLOURS[0])) == expected).all()


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_palettes_of_few_colours(bits: int) -> None:
    count = min(2**bits, 6)
    image = Image.fromarray((np.arange(60, dtype=np.uint8) % count).reshape(6, 10)).convert("P")
    image.putpalette([channel for colour in COLOURS[:count] for channel in colour])
    expected = np.array(COLOURS)[(np.arange(60) % count).reshape(6, 10)]
    assert (pixels(encoded(image, "PNG", bits=bits)) == expected).all()


def test_one_bit_is_black_or_white() -> None:
    bits = np.arange(60).reshape(6, 10) % 3 == 0
    expected = bits[..., None].repeat(3, 2) * 255
    for source in (bits, *(encoded(Image.fromarray(bits), kind) for kind in ("PNG", "TIFF", "BMP"))):
        assert (pixels(source) == expected).all()


@pytest.mark.parametrize("kind", ["JPEG", "TIFF"])
def test_ink_becomes_light(kind: str) -> None:
    ink = np.array([[0, 0, 0, 0], [255, 0, 0, 0], [0, 200, 100, 50], [10, 20, 30, 255]], np.uint8)
    image = Image.fromarray(ink[None].repeat(CELL, 0).repeat(CELL, 1), "CMYK")
    expected = (255 - ink[:, :3].astype(float)) * (255 - ink[:, 3:]) / 255
    found = pixels(encoded(image, kind, **({"quality": 95} if kind == "JPEG" else {})))
    assert np.abs(found[CELL // 2, CELL // 2 :: CELL] - expected).max() <= 6


SIXTEEN_BITS = np.array([[0, 1, 128, 129, 257, 32768], [65535, 65406, 65407, 1000, 40000, 12345]], np.uint16)


def sixteen_bit_sources() -> dict[str, Any]:
    image = Image.fromarray(SIXTEEN_BITS)
    big_endian = SIXTEEN_BITS.astype(">u2")
    return {
        "array": SIXTEEN_BITS,
        "array, big-endian": big_endian,
        "array with a channel": SIXTEEN_BITS[..., None],
        "PNG": encoded(image, "PNG"),
        "TIFF": encoded(image, "TIFF"),
        "TIFF, big-endian": encoded(Image.frombytes("I;16B", (6, 2), big_endian.tobytes()), "TIFF"),
        "PGM": b"P5 6 2 65535\n" + big_endian.tobytes(),
        "PIL, 32 bits": image.convert("I"),
    }


@pytest.mark.parametrize("source", sixteen_bit_sources())
def test_sixteen_bits_are_scaled_and_not_cut_off(source: str) -> None:
    expected = np.floor(SIXTEEN_BITS / 257 + 0.5)
    assert (pixels(sixteen_bit_sources()[source]) == expected[..., None]).all()


def test_sixteen_bits_of_a_colour_png_are_scaled() -> None:
    import cv2

    values = SIXTEEN_BITS.reshape(4, 3)[None].astype(np.uint16)
    data = cv2.imencode(".png", values[..., ::-1])[1].tobytes()
    assert np.abs(pixels(data) - values / 257).max() <= 1


def test_floating_point_is_from_black_0_to_white_1() -> None:
    values = np.array([[0, 0.5, 1], [0.25, 0.1, 0.999]])
    expected = np.round(values * 255)[..., None]
    for source in (values, values.astype(np.float16).astype(np.float32), Image.fromarray(values.astype(np.float32))):
        assert np.abs(pixels(source) - expected).max() <= 1


@pytest.mark.parametrize(
    ("array", "reason"),
    [
        (np.array([[0.0, 1.5]]), "floating-point values are not all in [0, 1]"),
        (np.array([[0.0, np.nan]]), "floating-point values are not all in [0, 1]"),
        (np.array([[-0.1]]), "floating-point values are not all in [0, 1]"),
        (np.zeros((4, 4), np.int64), "its values are int64, expected uint8, uint16, bool or float"),
        (np.zeros((4, 4), np.int8), "its values are int8"),
        (np.zeros((4, 4), np.uint32), "its values are uint32"),
        (np.array([["a"]], object), "its values are object"),
        (np.zeros((4, 4, 5), np.uint8), "with 1 to 4 channels"),
        (np.zeros((1, 4, 4, 3), np.uint8), "with 1 to 4 channels"),
        (np.zeros(4, np.uint8), "with 1 to 4 channels"),
        (np.zeros((0, 4, 3), np.uint8), "at least one pixel"),
        (np.zeros((3, 4, 3), np.uint8), "it has 4×3 pixels, and 11 are the limit"),
    ],
)
def test_an_array_of_unknown_meaning_is_refused(array: np.ndarray, reason: str) -> None:
    with pytest.raises(UnreadableImage) as refused:
        open_image(array, max_pixels=11 if reason.endswith("limit") else 100)
    assert reason in refused.value.reason


def test_an_array_need_not_be_contiguous() -> None:
    assert (pixels(cells()[::-2, ::3]) == cells()[::-2, ::3]).all()


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG", "TIFF"])
def test_of_several_pictures_it_is_the_first(kind: str) -> None:
    frames = [Image.new("RGB", (20, 10), colour) for colour in ("red", "blue", "lime")]
    options = {"lossless": True} if kind == "WEBP" else {}
    data = encoded(frames[0], kind, save_all=True, append_images=frames[1:], **options)
    assert getattr(Image.open(io.BytesIO(data)), "n_frames", 1) == 3
    assert (pixels(data) == [255, 0, 0]).all()


@pytest.mark.parametrize("size", [(1, 1), (100_000, 1), (1, 100_000), (3, 20_000)])
def test_no_size_is_too_odd(size: tuple[int, int]) -> None:
    rng = np.random.default_rng(0)
    values = rng.integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    assert (pixels(encoded(values, "PNG")) == values).all()
    assert (pixels(values) == values).all()


KNOWN = "expected BMP, GIF, JPEG, PNG, PPM, TIFF or WEBP"


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "it is empty (0 bytes)"),
        (b'<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"/>', f"it is an SVG drawing; {KNOWN}"),
        (b'\xef\xbb\xbf\n<?xml version="1.0"?><svg/>', f"it is XML, maybe an SVG drawing; {KNOWN}"),
        (b"<!DOCTYPE html><p>404", f"it is a web page; {KNOWN}"),
        (b"%PDF-1.7\n", f"it is a PDF document; {KNOWN}"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", f"it is a PostScript document; {KNOWN}"),
        (b"PK\x03\x04" + b"\0" * 60, f"it is a ZIP archive; {KNOWN}"),
        (b"\x1f\x8b\x08", f"it is a gzip archive; {KNOWN}"),
        (b"just words", f"it is damaged or none of these; {KNOWN}"),
        (b"\0" * 1000, f"it is damaged or none of these; {KNOWN}"),
        (b"\x89PNG\r\n\x1a\n", f"it is damaged or none of these; {KNOWN}"),
    ],
)
def test_what_is_no_image_is_refused_with_the_reason(data: bytes, reason: str, tmp_path: Path) -> None:
    path = tmp_path / "word.png"
    path.write_bytes(data)
    for source, name in ((path, str(path)), (str(path), str(path)), (data, f"an image of {len(data)} bytes")):
        with pytest.raises(UnreadableImage) as refused:
            open_image(source)
        assert str(refused.value) == f"{name} cannot be read as an image: {reason}"
        assert (refused.value.source, refused.value.reason) == (name, reason)


def test_formats_that_start_other_programs_are_not_tried() -> None:
    """Pillow has Ghostscript draw PostScript."""
    data = encoded(Image.new("RGB", (5, 5)), "EPS")
    assert Image.open(io.BytesIO(data)).format == "EPS"
    with pytest.raises(UnreadableImage, match="it is a PostScript document"):
        open_image(data)


def test_what_is_no_file_is_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    loop = tmp_path / "loop"
    loop.symlink_to(loop)
    reasons = {
        tmp_path: "it is a folder",
        tmp_path / "pipe": "it is not an ordinary file",
        Path("/dev/zero"): "it is not an ordinary file",
        tmp_path / "none.png": "No such file or directory",
        loop: "Too many levels of symbolic links",
        tmp_path / ("n" * 300): "File name too long",
        tmp_path / "a\0b": "embedded null byte",
    }
    for path, reason in reasons.items():
        with pytest.raises(UnreadableImage) as refused:
            open_image(path)
        assert refused.value.reason == reason


def test_what_is_no_source_at_all_is_refused() -> None:
    with pytest.raises(UnreadableImage, match="a list cannot be read as an image: expected a path, bytes, a PIL image"):
        open_image([1, 2])  # type: ignore[arg-type]


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
@pytest.mark.parametrize(
    ("kind", "options"), [*LOSSLESS.items(), ("JPEG", {}), ("GIF", {}), ("PNG", {"compress_level": 0})]
)
def test_a_file_that_is_cut_short_is_refused(kind: str, options: dict[str, Any]) -> None:
    data = encoded(np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8), kind, **options)
    for length in range(1, len(data) * 3 // 4, len(data) // 40):
        with pytest.raises(UnreadableImage):
            open_image(data[:length])


def test_the_limit_of_pixels_is_exact_and_holds_for_every_kind_of_source() -> None:
    image = Image.fromarray(cells())
    num_pixels = image.width * image.height
    for source in (image, cells(), encoded(image, "PNG"), encoded(image, "JPEG")):
        assert open_image(source, max_pixels=num_pixels).size == image.size
        with pytest.raises(UnreadableImage, match=f"48×32 pixels, and {num_pixels - 1} are the limit"):
            open_image(source, max_pixels=num_pixels - 1)


def test_the_callers_picture_stays_as_it_is() -> None:
    for mode in ("RGB", "L", "RGBA", "P", "CMYK"):
        image = Image.fromarray(cells()).convert(mode)
        before = image.tobytes()
        opened = open_image(image)
        opened.paste("white", (0, 0, *opened.size))
        assert image.tobytes() == before
        assert image.mode == mode


def test_threads_may_open_one_lazy_picture_at_once() -> None:
    values = np.random.default_rng(0).integers(0, 256, (300, 400, 3), dtype=np.uint8)
    data = encoded(values, "PNG")
    for _ in range(5):
        lazy = Image.open(io.BytesIO(data))
        found: list[bool] = []
        start = threading.Barrier(4)

        def work(lazy: Image.Image = lazy, found: list[bool] = found, start: threading.Barrier = start) -> None:
            start.wait()
            found.append(bool((pixels(lazy) == values).all()))

        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert found == [True] * 4


def test_the_error_goes_from_one_process_to_another() -> None:
    error = pickle.loads(pickle.dumps(UnreadableImage("word.png", "it is empty")))
    assert str(error) == "word.png cannot be read as an image: it is empty"
    assert (error.source, error.reason) == ("word.png", "it is empty")
