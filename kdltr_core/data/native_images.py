"""Words as their source has them, in their own size, which a pack does not keep."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from kdltr_core.data.images import decode_image
from kdltr_core.data.lmdb_store import LmdbStore


class NativeImages:
    """The (high-resolution) images of benchmark sets, by set and key.

    Args:
        folders: the LMDB of each set.
    """

    def __init__(self, folders: Mapping[str, Path]) -> None:
        self._stores = {name: LmdbStore.open(folder) for name, folder in folders.items()}

    def sizes(self, set_name: str, keys: Sequence[str]) -> list[tuple[int, int]]:
        """(height, width) of each in pixels, from the file's head alone."""
        sizes = []
        for key in keys:
            with Image.open(io.BytesIO(self._bytes(set_name, key))) as image:
                sizes.append((image.height, image.width))
        return sizes

    def pixels(self, set_name: str, key: str) -> np.ndarray:
        """(H, W, 3) uint8, RGB. Raises: RecordError if the bytes are not a whole image."""
        return np.asarray(decode_image(self._bytes(set_name, key), key))

    def _bytes(self, set_name: str, key: str) -> bytes:
        store, number = self._stores[set_name], int(key.rpartition("-")[2])
        return store.high_res(number) if store.kind == "paired" else store.image(number)
