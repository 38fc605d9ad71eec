"""From encoded bytes to pixels of the two sizes."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image

from kdltr_core.data.drops import RecordError


def decode_image(data: bytes, key: str) -> Image.Image:
    """An RGB image. Raises: RecordError ("corrupt image") if the bytes are not a whole image."""
    try:
        with Image.open(io.BytesIO(data)) as image:
            return image.convert("RGB")
    except Exception as error:  # PIL's decoders raise whatever broken bytes lead them to
        raise RecordError("corrupt image", key, str(error)) from error


def resize(image: Image.Image, size: tuple[int, int]) -> np.ndarray:
    """Bicubic to ``size`` = (height, width), whatever the aspect; an image of that size is left as it is.

    Returns: (height, width, 3) uint8.
    """
    height, width = size
    if image.size != (width, height):
        image = image.resize((width, height), Image.Resampling.BICUBIC)
    return np.asarray(image)
