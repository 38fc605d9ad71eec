"""Images: files of any kind opened safely, a data set's records decoded, and pixels brought to the two sizes."""

from __future__ import annotations

import io
import os
import stat
import threading
from collections.abc import Sequence
from contextlib import nullcontext, suppress
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

_TILE_WIDTH, _TILE_HEIGHT = 322, 323
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

    Of a file with several pictures it is the first. Grey values of 16 bits are scaled so that 65535 is white;
    floating-point values so that 1 is, and beyond [0, 1] they are refused.

    Args:
        source: a file's path; its bytes; a PIL image; or a uint8 array (H, W), (H, W, 3) in RGB or (H, W, 4) in RGBA.
        max_pixels: an image of more is not unpacked. Pillow's own limit, ``2 * Image.MAX_IMAGE_PIXELS``, holds too.
        name: what errors call the image; a path has a name of its own.

    Raises: UnreadableImage.
    """
    given = source if isinstance(source, Image.Image) else None
    try:
        with nullcontext(given) if given else _open(source) as image:
            _check_size(image, max_pixels)
            with _LOADING if given else nullcontext():
                image.load()
            with suppress(Exception):  # damaged notes beside a picture do not make it unreadable
                if given:
                    image = ImageOps.exif_transpose(image)
                else:  # without a copy
                    ImageOps.exif_transpose(image, in_place=True)
            return _to_rgb(image)
    except MemoryError as error:
        raise UnreadableImage(name or _name(source), "unpacking it needs more memory than there is") from error
    except Exception as error:  # Pillow's decoders raise whatever broken bytes lead them to
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise UnreadableImage(name or _name(source), reason) from error


def _name(source: ImageSource) -> str:
    if isinstance(source, str | Path):
        return str(source)
    if isinstance(source, bytes):
        return f"an image of {len(source)} bytes"
    if isinstance(source, np.ndarray):
        return f"an array of shape {source.shape}"
    return f"a {type(source).__name__}"


def _open(source: ImageSource) -> Image.Image:
    """With its size known and nothing unpacked."""
    if isinstance(source, np.ndarray):
        if source.dtype != np.uint8 or source.shape[2:] not in ((), (3,), (4,)) or source.ndim < 2 or 0 in source.shape:
            raise ValueError(f"expected uint8 (H, W), (H, W, 3) or (H, W, 4), not {source.dtype} {source.shape}")
        return Image.fromarray(source)
    if isinstance(source, str | Path):
        path = Path(source).expanduser()
        found = os.stat(path)
        # A pipe would be waited for, and a device may never end.
        if not stat.S_ISREG(found.st_mode):
            raise ValueError("it is a folder" if path.is_dir() else "it is not an ordinary file")
        num_bytes = found.st_size
    elif isinstance(source, bytes):
        num_bytes = len(source)
    else:
        raise ValueError("expected a path, bytes, a PIL image or an array")
    if num_bytes == 0:
        raise ValueError("it is empty (0 bytes)")
    try:
        return Image.open(io.BytesIO(source) if isinstance(source, bytes) else path, formats=FORMATS)
    except UnidentifiedImageError:
        raise ValueError(f"it is damaged, or none of {', '.join(FORMATS)}") from None


def _check_size(image: Image.Image, max_pixels: int) -> None:
    width, height = image.size
    if width * height > max_pixels:
        raise ValueError(f"it says that it has {width}×{height} pixels, and {max_pixels} are the limit")
    if min(width, height) < 1:
        raise ValueError(f"it has {width}×{height} pixels")
    tags = getattr(image, "tag_v2", {})
    # A tile is unpacked whole, however little of it lies in the picture.
    tile = int(tags.get(_TILE_WIDTH, 1)) * int(tags.get(_TILE_HEIGHT, 1))
    if tile > max_pixels:
        raise ValueError(f"it says that its tiles have {tile} pixels, and {max_pixels} are the limit")


def _to_rgb(image: Image.Image) -> Image.Image:
    """Always another image than the given one."""
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):  # "I" holds the 16 bits of some files in 32
        return Image.fromarray(_scale(np.asarray(image), 1 if image.mode == "F" else 65535)).convert("RGB")
    if image.has_transparency_data:
        if image.mode not in ("LA", "RGBA"):  # a conversion to the same mode would be a copy
            image = image.convert("LA" if image.mode == "La" else "RGBA")
        opaque = Image.new("RGB", image.size, "white")
        opaque.paste(image, mask=image.getchannel("A"))
        return opaque
    return image.convert("RGB")


def _scale(values: np.ndarray, white: int) -> np.ndarray:
    if not (values.min() >= 0 and values.max() <= white):  # a comparison with NaN is false
        raise ValueError(f"its values are not all in [0, {white}], so what is white is not known")
    return np.round(values * np.float32(255 / white)).astype(np.uint8)


def decode_image(data: bytes, key: str) -> Image.Image:
    """A record as ``open_image`` has it. Raises: RecordError ("corrupt image")."""
    try:
        return open_image(data, name=key)
    except UnreadableImage as error:
        raise RecordError("corrupt image", key, error.reason) from error


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
