"""Whatever an image comes as, its pixels are those a person would see; what is none is refused, and why is said."""

from __future__ import annotations

import io
import os
import pickle
import struct
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from kdltr_core.data.images import UnreadableImage, native_sizes, open_image
from kdltr_core.data.pack import build_pack
from tests.kdltr_core.data.image_files import BLACK, BLUE, GREEN, RED, WHITE, encode, noise, whole_files
from tests.kdltr_core.data.sets import paired_records, single_records, write_records

# How a picture has to be turned to stand upright, by the tables of the EXIF standard (2.32, page 36), in numpy.
UPRIGHT = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.transpose(1, 0, 2),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: a.transpose(1, 0, 2)[::-1, ::-1],
    8: lambda a: np.rot90(a, 1),
}


def pixels(source: object) -> np.ndarray:
    image = open_image(source)  # type: ignore[arg-type]
    assert image.mode == "RGB"
    return np.asarray(image)


def dots(*colours: tuple[int, ...], mode: str = "RGB") -> Image.Image:
    """A picture of one row."""
    image = Image.new(mode, (len(colours), 1))
    for x, colour in enumerate(colours):
        image.putpixel((x, 0), colour if len(colour) > 1 else colour[0])
    return image


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "WEBP"])
@pytest.mark.parametrize("orientation", [0, *UPRIGHT, 9, 65535])
def test_a_picture_stands_upright_by_its_exif_orientation(orientation: int, kind: str) -> None:
    exif = Image.Exif()
    exif[274] = orientation
    data = encode(Image.fromarray(noise()), kind, exif=exif, **({"lossless": True} if kind == "WEBP" else {}))
    expected = UPRIGHT.get(orientation, UPRIGHT[1])(noise())  # what the standard does not have turns nothing
    np.testing.assert_array_equal(pixels(data), expected)
    np.testing.assert_array_equal(pixels(Image.open(io.BytesIO(data))), expected)


def palette_with_transparency() -> bytes:
    image = Image.new("P", (3, 1))
    image.putpalette([*RED, *GREEN, *BLUE])
    image.putdata([0, 1, 2])
    return encode(image, "PNG", transparency=1)


def sixteen_bit_colours() -> bytes:
    """Blue, green, red, as OpenCV has them."""
    values = np.array([[[65535, 0, 128 * 257]]], np.uint16)
    return cv2.imencode(".png", values)[1].tobytes()


SIXTEEN = np.array([[0, 257, 128 * 257, 65535, 385, 386]], np.uint16)  # 385 = 257 * 1.498, 386 = 257 * 1.502
GREYS = [(grey,) * 3 for grey in (0, 1, 128, 255, 1, 2)]


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        pytest.param(encode(dots((0,), (255,), (7,), mode="L"), "PNG"), [BLACK, WHITE, (7, 7, 7)], id="grey"),
        pytest.param(encode(dots((0,), (255,), mode="1"), "PNG"), [BLACK, WHITE], id="one-bit"),
        pytest.param(palette_with_transparency(), [RED, WHITE, BLUE], id="palette-transparency"),
        pytest.param(
            encode(dots((*RED, 255), (*RED, 0), (*BLACK, 51), mode="RGBA"), "PNG"),
            [RED, WHITE, (204, 204, 204)],
            id="alpha-over-white",
        ),
        pytest.param(encode(dots(RED, GREEN), "PNG", transparency=GREEN), [RED, WHITE], id="transparent-colour"),
        pytest.param(encode(dots((0, 0, 0, 0), (0, 255, 255, 0), mode="CMYK"), "TIFF"), [WHITE, RED], id="cmyk"),
        pytest.param(encode(Image.fromarray(SIXTEEN), "PNG"), GREYS, id="16-bit-grey-png"),
        pytest.param(encode(Image.fromarray(SIXTEEN), "TIFF"), GREYS, id="16-bit-grey-tiff"),
        pytest.param(sixteen_bit_colours(), [(128, 0, 255)], id="16-bit-colours"),
        pytest.param(
            encode(Image.fromarray(np.array([[0, 0.5, 1]], np.float32)), "TIFF"),
            [BLACK, (128, 128, 128), WHITE],
            id="float-tiff",
        ),
        pytest.param(np.array([[[255, 0, 0, 255], [0, 0, 0, 0]]], np.uint8), [RED, WHITE], id="rgba-array"),
    ],
)
def test_colours_are_those_a_person_would_see(source: object, expected: list[tuple[int, int, int]]) -> None:
    np.testing.assert_array_equal(pixels(source), np.array([expected], np.uint8))


def test_a_cmyk_photograph_has_the_colours_of_its_inks() -> None:
    """As printers' programs write them; the file says itself whether its values are inverted."""
    seen = pixels(encode(Image.new("CMYK", (16, 16), (0, 255, 255, 0)), "JPEG", quality=100)).astype(int)
    assert np.abs(seen - RED).max() < 6


@pytest.mark.parametrize(("kind", "options"), [("GIF", {}), ("PNG", {}), ("WEBP", {"lossless": True})])
def test_of_an_animation_the_first_picture_is_seen(kind: str, options: dict[str, object]) -> None:
    first, others = Image.new("RGB", (6, 4), RED), [Image.new("RGB", (6, 4), colour) for colour in (GREEN, BLUE)]
    data = encode(first, kind, save_all=True, append_images=others, **options)
    assert Image.open(io.BytesIO(data)).n_frames == 3
    np.testing.assert_array_equal(pixels(data), np.asarray(first))


@pytest.mark.parametrize("size", [(1, 1), (100_000, 1), (1, 100_000)])
def test_a_dot_and_a_thread_are_images(size: tuple[int, int]) -> None:
    values = noise(size[1], size[0])
    np.testing.assert_array_equal(pixels(encode(Image.fromarray(values), "PNG")), values)


def test_what_is_given_stays_as_it_is() -> None:
    image, array = Image.new("RGBA", (3, 2), (1, 2, 3, 4)), noise()
    opened = open_image(image)
    opened.paste(WHITE, (0, 0, 3, 2))
    open_image(array).paste(WHITE, (0, 0, 30, 12))
    assert image.mode == "RGBA"
    assert image.getpixel((0, 0)) == (1, 2, 3, 4)
    np.testing.assert_array_equal(array, noise())


def test_the_suffix_of_a_file_does_not_count(tmp_path: Path) -> None:
    for name, kind in {"word.jpg": "PNG", "word.png": "TIFF", "word.txt": "BMP", "word": "GIF"}.items():
        (tmp_path / name).write_bytes(encode(Image.new("RGB", (3, 2), RED), kind))
        np.testing.assert_array_equal(pixels(tmp_path / name), np.full((2, 3, 3), RED, np.uint8))


def test_the_limit_is_on_pixels_and_is_exact() -> None:
    data = encode(Image.new("L", (20, 10)), "PNG")
    image, array = Image.new("L", (20, 10)), np.zeros((10, 20), np.uint8)
    for source in (data, image, array):
        assert open_image(source, max_pixels=200).size == (20, 10)
        with pytest.raises(UnreadableImage, match="20×10 pixels, and 199 are the limit"):
            open_image(source, max_pixels=199)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", r"it is empty \(0 bytes\)"),
        (b"hello", "it is damaged, or none of BMP, GIF, JPEG, PNG, PPM, TIFF, WEBP"),
        (b"\x89PNG\r\n\x1a\n", "it is damaged, or none of BMP"),
    ],
)
def test_what_is_no_image_is_refused_by_what_it_is(data: bytes, reason: str, tmp_path: Path) -> None:
    with pytest.raises(UnreadableImage, match=f"^an image of {len(data)} bytes cannot be read as an image: {reason}"):
        open_image(data)
    path = tmp_path / "word.png"
    path.write_bytes(data)
    with pytest.raises(UnreadableImage, match=f"^{path} cannot be read as an image: {reason}") as refusal:
        open_image(path)
    assert refusal.value.source == str(path)


@pytest.mark.parametrize("kind", [kind for kind in whole_files() if kind != "ppm-text"])
def test_the_first_half_of_a_file_is_no_image(kind: str) -> None:
    """Half a picture may look like another word."""
    data = whole_files()[kind]
    open_image(data)
    with pytest.raises(UnreadableImage):
        open_image(data[: len(data) // 2] if not kind.endswith("animated") else data[: len(data) // 6])


@pytest.mark.parametrize(
    ("array", "reason"),
    [
        (np.zeros((2, 3, 5), np.uint8), r"^an array of shape \(2, 3, 5\) .* expected uint8 \(H, W\)"),
        (np.zeros((0, 3), np.uint8), r"^an array of shape \(0, 3\) .* expected"),
        (np.zeros((2, 3)), "expected uint8 .*, not float64"),
        (Image.new("I", (2, 2), -1), r"not all in \[0, 65535\]"),
        (Image.new("I", (2, 2), 65536), r"not all in \[0, 65535\]"),
        (encode(Image.fromarray(np.full((2, 3), 255, np.float32)), "TIFF"), r"not all in \[0, 1\]"),
        (encode(Image.fromarray(np.full((2, 3), np.nan, np.float32)), "TIFF"), r"not all in \[0, 1\]"),
        (Image.new("RGB", (0, 4)), "0×4 pixels"),
        (7, "expected a path, bytes, a PIL image or an array"),
    ],
)
def test_values_whose_white_is_not_known_are_refused(array: object, reason: str) -> None:
    with pytest.raises(UnreadableImage, match=reason):
        open_image(array)  # type: ignore[arg-type]


def test_what_is_no_file_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder.png").mkdir()
    for name, reason in {
        "pipe": "it is not an ordinary file",
        "folder.png": "it is a folder",
        "nowhere.png": "No such file or directory",
    }.items():
        with pytest.raises(UnreadableImage, match=reason):
            open_image(tmp_path / name)
    with pytest.raises(UnreadableImage):
        open_image("nul\0byte.png")
    with pytest.raises(UnreadableImage, match="it is not an ordinary file"):
        open_image("/dev/zero")


def test_a_name_that_is_given_is_the_one_in_the_refusal() -> None:
    with pytest.raises(UnreadableImage, match=r"^the third page cannot be read as an image: it is empty"):
        open_image(b"", name="the third page")


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
@pytest.mark.parametrize("entry", [b"\xff" * 40, struct.pack(">HHHI4sI", 1, 274, 2, 3, b"up\0", 0)])
def test_damaged_exif_notes_do_not_matter(entry: bytes) -> None:
    """What follows the standard's head is no list of notes at all, or has letters for an orientation."""
    data = encode(Image.fromarray(noise()), "PNG", exif=b"Exif\0\0MM\0*\0\0\0\x08" + entry)
    np.testing.assert_array_equal(pixels(data), noise())


@pytest.mark.parametrize("mode", ["RGBA", "RGBa", "LA", "La"])
def test_alpha_is_a_share_of_white_multiplied_beforehand_or_not(mode: str) -> None:
    alpha = np.arange(0, 256, 255 // 5, dtype=np.uint8).reshape(2, 3)
    colours = noise(2, 3) if mode.startswith("RGB") else noise(2, 3)[..., [0, 0, 0]]
    expected = colours * (alpha[..., None] / 255) + 255.0 - alpha[..., None]
    channels = colours if mode.startswith("RGB") else colours[..., :1]
    image = Image.fromarray(np.dstack([channels, alpha]))
    assert np.abs(pixels(image.convert(mode)).astype(int) - expected).max() <= (3 if mode.endswith("a") else 1)


@pytest.mark.parametrize("big_endian", [False, True])
def test_sixteen_bits_in_either_order_of_bytes(big_endian: bool) -> None:
    values = np.array([[0, 1, 128, 129, 257, 32768, 65535, 65406, 65407, 12345]], np.uint16)
    stored = values.astype(">u2" if big_endian else "<u2")
    image = Image.frombytes("I;16B" if big_endian else "I;16", (10, 1), stored.tobytes())
    expected = np.floor(values / 257 + 0.5)[..., None].repeat(3, 2)
    for source in (image, encode(image, "TIFF")):
        np.testing.assert_array_equal(pixels(source), expected)


def test_an_array_need_not_be_contiguous() -> None:
    np.testing.assert_array_equal(pixels(noise()[::-2, ::3]), noise()[::-2, ::3])


def test_formats_that_start_other_programs_are_not_tried() -> None:
    """Pillow has Ghostscript draw PostScript."""
    data = encode(Image.new("RGB", (5, 5)), "EPS")
    assert Image.open(io.BytesIO(data)).format == "EPS"
    with pytest.raises(UnreadableImage, match="it is damaged, or none of BMP"):
        open_image(data)


def test_the_error_goes_from_one_process_to_another() -> None:
    error = pickle.loads(pickle.dumps(UnreadableImage("word.png", "it is empty")))
    assert str(error) == "word.png cannot be read as an image: it is empty"
    assert (error.source, error.reason) == ("word.png", "it is empty")


@pytest.mark.parametrize("records", [single_records, paired_records])
def test_the_native_sizes_of_a_set_are_those_of_its_sources(records: Callable[..., dict], tmp_path: Path) -> None:
    """A drawn picture has 30 rows and 90 columns, the low resolution of a pair fewer."""
    folder = write_records(tmp_path / "set", records(["one", "two"]))
    assert native_sizes(folder, build_pack(folder, cache_folder=tmp_path / "cache").keys) == [(30, 90)] * 2
