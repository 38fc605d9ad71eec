"""Seconds and bytes that opening a large set takes, once it is packed.  python -m benchmarks.opening [NUM_IMAGES]"""

from __future__ import annotations

import io
import json
import pickle
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import lmdb
import numpy as np
from PIL import Image

MEGABYTE = 1e6


def write_set(root: Path, num_images: int) -> None:
    """Small JPEGs of noise, a thousand different ones, with a label each."""
    root.mkdir(parents=True)
    rng = np.random.default_rng(0)
    images = []
    for _ in range(1000):
        file = io.BytesIO()
        Image.fromarray(rng.integers(0, 256, (16, 24, 3), dtype=np.uint8)).save(file, "JPEG", quality=75)
        images.append(file.getvalue())
    with lmdb.open(str(root), map_size=num_images * 3000 + 2**26) as environment, environment.begin(write=True) as to:
        for number in range(1, num_images + 1):
            # What follows a JPEG's end is no pixel, and makes every file another one.
            to.put(f"image-{number:09d}".encode(), images[number % 1000] + str(number).encode())
            to.put(f"label-{number:09d}".encode(), f"word{number}".encode())
        to.put(b"num-samples", str(num_images).encode())


def bytes_read() -> int:
    """By calls, and of mapped files so far."""
    called = re.search(r"rchar: (\d+)", Path("/proc/self/io").read_text())
    mapped, is_file = 0, False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        if re.match(r"[0-9a-f]+-[0-9a-f]+ ", line):
            is_file = line.endswith((".mdb", "high_res", "low_res"))
        elif is_file and line.startswith("Rss:"):
            mapped += 1024 * int(line.split()[1])
    assert called is not None
    return int(called[1]) + mapped


def measure(folder: Path, who: str) -> dict[str, float]:
    """In a process of its own: what the driver does, or a worker who is told by the driver."""
    from kdltr_core.charset import Charset94
    from kdltr_core.config import DataConfig
    from kdltr_core.data import pack
    from kdltr_core.data.dataset import load_datasets

    config = DataConfig(
        train_roots=(str(folder / "train"),), benchmark_roots=(str(folder / "benchmark"),), cache_folder=str(folder)
    )
    if who == "prepare":
        pack.decode_image = lambda data, key: Image.new(
            "RGB", (1, 1)
        )  # what the pixels are does not matter here, and decoding takes long
        pack.resize = lambda image, size: np.zeros((*size, 3), np.uint8)
        (folder / "description.pickle").write_bytes(pickle.dumps(load_datasets(config, Charset94).description))
        return {}
    told = {"description": pickle.loads((folder / "description.pickle").read_bytes())}
    before, start, cpu = bytes_read(), time.perf_counter(), time.process_time()
    datasets = load_datasets(config, Charset94, **(told if who == "worker" else {}))
    seconds, cpu, read = time.perf_counter() - start, time.process_time() - cpu, bytes_read() - before
    assert len(datasets.train) > 0
    return {"seconds": round(seconds, 2), "of a core": round(cpu, 2), "MB": round(read / MEGABYTE, 1)}


def main(arguments: list[str]) -> None:
    if len(arguments) == 2:
        print(json.dumps(measure(Path(arguments[0]), arguments[1])))
        return
    num_images = int(arguments[0]) if arguments else 200_000
    with tempfile.TemporaryDirectory() as scratch:
        write_set(Path(scratch) / "train", num_images)
        write_set(Path(scratch) / "benchmark", 100)
        print(f"{num_images} images, {(Path(scratch) / 'train/data.mdb').stat().st_size / MEGABYTE:.0f} MB in the LMDB")
        for who in ("prepare", "driver", "worker"):
            command = [sys.executable, "-m", "benchmarks.opening", scratch, who]
            answer = subprocess.run(command, check=True, capture_output=True, text=True).stdout
            if who != "prepare":
                print(who, answer.strip())


if __name__ == "__main__":
    main(sys.argv[1:])
