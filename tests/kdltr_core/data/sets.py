"""Small LMDBs of drawn images, written without the code under test."""

from __future__ import annotations

import io
from pathlib import Path

import lmdb
import numpy as np
from PIL import Image


def drawn(seed: int, width: int = 90, height: int = 30) -> np.ndarray:
    """(height, width, 3) uint8: a gradient, a bar and some noise, another for every seed."""
    rng = np.random.default_rng(seed)
    picture = np.linspace(rng.integers(0, 100), rng.integers(150, 256), width)[None, :, None]
    picture = picture + rng.normal(0, 4, (height, width, 3))
    picture[height // 3 : height // 2, 5 : 5 + int(rng.integers(10, 60))] = rng.integers(0, 256, 3)
    return np.clip(picture, 0, 255).astype(np.uint8)


def png(pixels: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def write_records(root: Path, records: dict[str, bytes]) -> Path:
    root.mkdir(parents=True)
    with lmdb.open(str(root), map_size=1 << 26) as environment, environment.begin(write=True) as transaction:
        for key, value in records.items():
            transaction.put(key.encode(), value)
    return root


def single_records(labels: list[str], first_seed: int = 0) -> dict[str, bytes]:
    records = {"num-samples": str(len(labels)).encode()}
    for number, label in enumerate(labels, start=1):
        records[f"image-{number:09d}"] = png(drawn(first_seed + number))
        records[f"label-{number:09d}"] = label.encode()
    return records


def paired_records(labels: list[str], first_seed: int = 0) -> dict[str, bytes]:
    records = {"num-samples": str(len(labels)).encode()}
    for number, label in enumerate(labels, start=1):
        records[f"image_hr-{number:09d}"] = png(drawn(first_seed + number))
        records[f"image_lr-{number:09d}"] = png(drawn(first_seed + number, 45, 15))
        records[f"label-{number:09d}"] = label.encode()
    return records
