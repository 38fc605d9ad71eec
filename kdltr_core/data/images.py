"""From encoded bytes to pixels of the two sizes."""

from __future__ import annotations

import io

import numpy as np
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from kdltr_core.data.rejected import RecordError


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


def as_float(pixels: Tensor) -> Tensor:
    """uint8 pixels to float in [0, 1]."""
    return pixels.float() / 255


def enlarge(images: Tensor) -> Tensor:
    """Low-res images (N, 3, 16, 64) as a teacher is shown them: (N, 3, 32, 128), bicubic with aligned corners."""
    return F.interpolate(images, scale_factor=2, mode="bicubic", align_corners=True)
