"""Images that are seldom met: rare modes and orientations, damaged notes, pictures that threads share."""

from __future__ import annotations

import io
import pickle
import struct
import threading

import numpy as np
import pytest
from PIL import Image

from kdltr_core.data.open_image import UnreadableImage, open_image
from tests.kdltr_core.data.image_files import encode, noise, whole_files

# By the standard's words: the sides of the upright picture on which the first stored row and column lie.
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


def pixels(source: object) -> np.ndarray:
    image = open_image(source)  # type: ignore[arg-type]
    assert image.mode == "RGB"
    return np.asarray(image).astype(int)


@pytest.mark.parametrize("orientation", STORED_TO_UPRIGHT)
@pytest.mark.parametrize("kind", ["JPEG", "WEBP"])
def test_every_format_with_an_orientation_is_turned_by_it(kind: str, orientation: int) -> None:
    cells = noise(2, 3).repeat(16, 0).repeat(16, 1)
    notes = Image.Exif()
    notes[274] = orientation
    options = {"quality": 95} if kind == "JPEG" else {"lossless": True}
    found = pixels(encode(Image.fromarray(cells), kind, exif=notes, **options))
    expected = STORED_TO_UPRIGHT[orientation](cells).astype(int)
    assert found.shape == expected.shape
    middles = (slice(8, None, 16),) * 2
    assert np.abs(found[middles] - expected[middles]).max() <= 10


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
    assert np.abs(pixels(image.convert(mode)) - expected).max() <= (3 if mode.endswith("a") else 1)


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_palettes_of_few_colours(bits: int) -> None:
    palette = noise(2**bits, 1)[:, 0]
    indices = (np.arange(60).reshape(6, 10) % 2**bits).astype(np.uint8)
    image = Image.fromarray(indices).convert("P")
    image.putpalette(palette.flatten().tolist())
    np.testing.assert_array_equal(pixels(encode(image, "PNG", bits=bits)), palette[indices])


@pytest.mark.parametrize("big_endian", [False, True])
def test_sixteen_bits_in_either_order_of_bytes(big_endian: bool) -> None:
    values = np.array([[0, 1, 128, 129, 257, 32768, 65535, 65406, 65407, 12345]], np.uint16)
    stored = values.astype(">u2" if big_endian else "<u2")
    image = Image.frombytes("I;16B" if big_endian else "I;16", (10, 1), stored.tobytes())
    expected = np.floor(values / 257 + 0.5)[..., None].repeat(3, 2)
    for source in (stored, image, encode(image, "TIFF")):
        np.testing.assert_array_equal(pixels(source), expected)


@pytest.mark.parametrize("value", [-1, 65536])
def test_more_than_sixteen_bits_are_refused(value: int) -> None:
    with pytest.raises(UnreadableImage, match="its values are not all in 0…65535"):
        open_image(Image.new("I", (2, 2), value))


def test_an_array_need_not_be_contiguous() -> None:
    np.testing.assert_array_equal(pixels(noise()[::-2, ::3]), noise()[::-2, ::3])


def test_formats_that_start_other_programs_are_not_tried() -> None:
    """Pillow has Ghostscript draw PostScript."""
    data = encode(Image.new("RGB", (5, 5)), "EPS")
    assert Image.open(io.BytesIO(data)).format == "EPS"
    with pytest.raises(UnreadableImage, match="it is a PostScript document"):
        open_image(data)


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
@pytest.mark.parametrize("kind", ["png", "jpeg", "gif", "webp-lossless", "tiff-lzw", "bmp", "ppm"])
def test_a_file_that_is_cut_short_anywhere_is_refused(kind: str) -> None:
    data = whole_files()[kind]
    for length in range(1, len(data) * 3 // 4, max(1, len(data) // 40)):
        with pytest.raises(UnreadableImage):
            open_image(data[:length])


def test_threads_may_open_one_picture_that_is_not_loaded_yet() -> None:
    values = noise(300, 400)
    data = encode(Image.fromarray(values), "PNG")
    for _ in range(5):
        found: list[bool] = []
        start = threading.Barrier(4)

        def work(
            lazy: Image.Image = Image.open(io.BytesIO(data)),  # noqa: B008
            found: list[bool] = found,
            start: threading.Barrier = start,
        ) -> None:
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
