"""Images: files of any kind opened safely, a data set's records decoded, and pixels brought to the two sizes."""

from __future__ import annotations

import io
import os
import stat
import threading
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np
import torch.nn.functional as F
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from kdltr_core.data.lmdb_store import LmdbStore
from kdltr_core.data.rejected import RecordError

ImageSource = Image.Image | np.ndarray | str | Path | bytes

MAX_PIXELS = 64_000_000
# Not all that Pillow knows: some formats start other programs (EPS), and some only say their size while they unpack.
FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")

# A picture whose shorter side has more pixels is a page or a scene rather than a cut-out word.
LARGEST_WORD = 640

_TILE_WIDTH, _TILE_HEIGHT = 322, 323
_WITH_ALPHA = ("LA", "La", "PA", "RGBA", "RGBa")
# What a picture of the caller still has to be read from may be asked for by several threads, and Pillow has no lock.
_LOADING = threading.Lock()


class UnreadableImage(ValueError):
    """What cannot be read as an image.

    Attributes:
        source: its name.
        reason: why, without the name.
    """

    def __init__(self, source: str, reason: str) -> None:
        super().__init__(f"{source} cannot be read as an image: {reason}")
        self.source, self.reason = source, reason

    def __reduce__(self) -> tuple[type[UnreadableImage], tuple[str, str]]:
        return UnreadableImage, (self.source, self.reason)


def open_image(source: ImageSource, max_pixels: int = MAX_PIXELS, name: str = "") -> Image.Image:
    """An RGB image as a person would see it: upright by its EXIF orientation, what is transparent white.

    Of a file with several pictures it is the first. Grey values of 16 bits, files or arrays, are scaled so that 65535
    is white; floating-point values so that 1 is, and beyond [0, 1] they are refused.

    Args:
        source: a file's path; its bytes; a PIL image; or an array (H, W), or (H, W, C) with 1 (grey), 2 (grey, alpha),
            3 (RGB) or 4 (RGBA) channels, of uint8, uint16, bool or float.
        max_pixels: an image of more is not unpacked. Pillow's own limit, ``2 * Image.MAX_IMAGE_PIXELS``, holds too.
        name: what errors call the image; a path has a name of its own.

    Raises: UnreadableImage.
    """
    name = name or _name(source)
    try:
        if isinstance(source, np.ndarray):
            return _to_rgb(_from_array(source, max_pixels))
        if isinstance(source, Image.Image):
            _check_size(source, max_pixels)
            with _LOADING:
                source.load()
            with suppress(Exception):  # damaged notes beside a picture do not make it unreadable
                source = ImageOps.exif_transpose(source)
            return _to_rgb(source)
        with _open(source) as image:
            _check_size(image, max_pixels)
            image.load()
            with suppress(Exception):
                ImageOps.exif_transpose(image, in_place=True)
            return _to_rgb(image)
    except _Refused as refused:
        raise UnreadableImage(name, str(refused)) from None
    except Image.DecompressionBombError:
        most = min(max_pixels, 2 * (Image.MAX_IMAGE_PIXELS or max_pixels))
        raise UnreadableImage(name, f"it says that it has many more pixels than {most}, which are the limit") from None
    except OSError as error:
        raise UnreadableImage(name, error.strerror or str(error)) from error
    except MemoryError as error:
        raise UnreadableImage(name, "unpacking it needs more memory than there is") from error
    except Exception as error:  # Pillow's decoders raise whatever broken bytes lead them to
        raise UnreadableImage(name, str(error) or type(error).__name__) from error


class _Refused(Exception):
    """A reason, to which the name is added."""


def _name(source: ImageSource) -> str:
    if isinstance(source, str | Path):
        return str(source)
    if isinstance(source, bytes):
        return f"an image of {len(source)} bytes"
    if isinstance(source, np.ndarray):
        return f"an array of shape {source.shape}"
    return f"a {type(source).__name__}"


def _open(source: str | Path | bytes) -> Image.Image:
    """With its size known and nothing unpacked."""
    if isinstance(source, bytes):
        return _identify(io.BytesIO(source), len(source))
    if not isinstance(source, str | Path):
        raise _Refused("expected a path, bytes, a PIL image or an array")
    path = Path(source).expanduser()
    found = os.stat(path)
    # A pipe would be waited for, and a device may never end.
    if not stat.S_ISREG(found.st_mode):
        raise _Refused("it is a folder" if path.is_dir() else "it is not an ordinary file")
    return _identify(path, found.st_size)


def _identify(file: Path | io.BytesIO, num_bytes: int) -> Image.Image:
    if num_bytes == 0:
        raise _Refused("it is empty (0 bytes)")
    try:
        return Image.open(file, formats=FORMATS)
    except UnidentifiedImageError:
        raise _Refused(f"it is damaged, or none of {', '.join(FORMATS)}") from None


def _check_size(image: Image.Image, max_pixels: int) -> None:
    width, height = image.size
    if width * height > max_pixels:
        raise _Refused(f"it says that it has {width}×{height} pixels, and {max_pixels} are the limit")
    if min(width, height) < 1:
        raise _Refused(f"it has {width}×{height} pixels")
    tags = getattr(image, "tag_v2", {})
    # A tile is unpacked whole, however little of it lies in the picture.
    tile = int(tags.get(_TILE_WIDTH, 1)) * int(tags.get(_TILE_HEIGHT, 1))
    if tile > max_pixels:
        raise _Refused(f"it says that its tiles have {tile} pixels, and {max_pixels} are the limit")


def _to_rgb(image: Image.Image) -> Image.Image:
    """Always another image than the given one."""
    if image.mode == "I":
        return Image.fromarray(_scale(_sixteen_bits(np.asarray(image)))).convert("RGB")
    if image.mode == "F" or image.mode.startswith("I;16"):
        return Image.fromarray(_scale(np.asarray(image))).convert("RGB")
    if image.mode in _WITH_ALPHA or "transparency" in image.info:
        if image.mode not in ("LA", "RGBA"):  # a conversion to the same mode would be a copy
            image = image.convert("LA" if image.mode == "La" else "RGBA")
        opaque = Image.new("RGB", image.size, "white")
        opaque.paste(image, mask=image.getchannel("A"))
        return opaque
    return image.convert("RGB")


def _from_array(array: np.ndarray, max_pixels: int) -> Image.Image:
    modes = {1: "L", 2: "LA", 3: "RGB", 4: "RGBA"}
    if array.ndim == 2:
        array = array[..., None]
    if array.ndim != 3 or array.shape[2] not in modes or 0 in array.shape:
        raise _Refused("expected (H, W), or (H, W, C) with 1 to 4 channels, and at least one pixel")
    if array.shape[0] * array.shape[1] > max_pixels:
        raise _Refused(f"it has {array.shape[1]}×{array.shape[0]} pixels, and {max_pixels} are the limit")
    scaled = _scale(array)
    return Image.fromarray(scaled[..., 0] if scaled.shape[2] == 1 else scaled)


def _scale(values: np.ndarray) -> np.ndarray:
    """Values of any type to uint8, by what is white in it."""
    if values.dtype == np.uint8:
        return values
    if values.dtype == np.bool_:
        return values.astype(np.uint8) * 255
    if values.dtype.kind == "f":
        # A comparison with NaN is false.
        if not (values.min() >= 0 and values.max() <= 1):
            raise _Refused("its floating-point values are not all in [0, 1], so what is white is not known")
        scaled = values * 255
        return np.round(scaled, out=scaled).astype(np.uint8)
    if values.dtype.kind == "u" and values.dtype.itemsize == 2:
        scaled = values.astype(np.uint32)
        scaled += 128
        scaled //= 257
        return scaled.astype(np.uint8)
    raise _Refused(f"its values are {values.dtype}, expected uint8, uint16, bool or float")


def _sixteen_bits(values: np.ndarray) -> np.ndarray:
    """Some files' 16 bits Pillow holds in 32; what has more is not of a known white."""
    if values.min() < 0 or values.max() > 65535:
        raise _Refused("its values are not all in 0…65535, so what is white is not known")
    return values.astype(np.uint16)


def decode_image(data: bytes, key: str) -> Image.Image:
    """An RGB image. Raises: RecordError ("corrupt image") if the bytes are not a whole image."""
    try:
        with Image.open(io.BytesIO(data)) as image:
            return image.convert("RGB")
    except Exception as error:  # PIL's decoders raise whatever broken bytes lead them to
        raise RecordError("corrupt image", key, str(error)) from error


def decode_word(data: bytes, key: str) -> Image.Image:
    """A user's own picture of a word, as ``open_image`` has it.

    Raises: RecordError ("corrupt image", "far larger than a word").
    """
    try:
        image = open_image(data, name=key)
    except UnreadableImage as error:
        raise RecordError("corrupt image", key, error.reason) from error
    if min(image.size) > LARGEST_WORD:
        raise RecordError("far larger than a word", key, f"{image.width}×{image.height} pixels")
    return image


def resize(image: Image.Image, size: tuple[int, int]) -> np.ndarray:
    """Bicubic to ``size`` = (height, width), whatever the aspect; an image of that size is left as it is.

    Returns: (height, width, 3) uint8.
    """
    height, width = size
    if image.size != (width, height):
        image = image.resize((width, height), Image.Resampling.BICUBIC)
    return np.asarray(image)


def as_float(pixels: Tensor) -> Tensor:
    """uint8 pixels to float in [0, 1]."""
    return pixels.float() / 255


def enlarge(images: Tensor) -> Tensor:
    """Low-res images (N, 3, 16, 64) as a teacher is shown them: (N, 3, 32, 128), bicubic with aligned corners."""
    return F.interpolate(images, scale_factor=2, mode="bicubic", align_corners=True)


def native_sizes(folder: Path, keys: Sequence[str]) -> list[tuple[int, int]]:
    """(height, width) in pixels of an LMDB's (high-resolution) images, by their keys, from the files' heads alone."""
    store, sizes = LmdbStore.open(folder), []
    for key in keys:
        with Image.open(io.BytesIO(store.image(int(key.rpartition("-")[2])))) as image:
            sizes.append((image.height, image.width))
    return sizes
