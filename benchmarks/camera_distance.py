"""How far a degradation is from real low resolution: distributions of what pictures are like, side by side.

python -m benchmarks.camera_distance --root DATASETS/textzoom/train2
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tyro
from matplotlib.figure import Figure
from PIL import Image
from scipy.stats import ks_2samp

from kdltr_core.config import LOW_RES_SIZE, DataConfig
from kdltr_core.data.camera import photograph
from kdltr_core.data.degrade import degrade
from kdltr_core.data.images import resize
from kdltr_core.data.pack import build_pack
from pipelines.run.command_line import answer_mistakes
from pipelines.run.progress import progress_bar

LUMA = np.array([0.299, 0.587, 0.114], np.float32)


@dataclass(frozen=True)
class DistanceConfig:
    """Kolmogorov–Smirnov distances between the low_res of a paired set and what degradations make of its high_res."""

    root: Path
    """a paired LMDB whose low_res is real, such as TextZoom's train2"""
    output: Path = Path("runs/camera_distance")
    """folder for distances.json and distances.png"""


def measure(pictures: np.ndarray) -> dict[str, np.ndarray]:
    """What pictures (N, 16, 64, 3) uint8 are like: by name (N,)."""
    pixels = pictures.astype(np.float32)
    luma = pixels @ LUMA
    across, down = np.abs(np.diff(luma, axis=2)), np.abs(np.diff(luma, axis=1))
    second = np.diff(np.diff(luma, 2, axis=1), 2, axis=2)
    spectra = [np.abs(np.fft.rfft(luma - luma.mean((1, 2), keepdims=True), axis=axis)) ** 2 for axis in (2, 1)]
    horizontal, vertical = spectra[0].sum(1)[:, 1:], spectra[1].sum(2)[:, 1:]
    colour = [np.abs(np.diff(pixels[..., channel] - luma, axis=2)).mean((1, 2)) for channel in (0, 2)]
    return {
        "gradient, across": across.mean((1, 2)),
        "gradient, down": down.mean((1, 2)),
        "noise": np.median(np.abs(second), axis=(1, 2)) / 6 * 1.4826,
        "contrast": luma.std((1, 2)),
        "spectrum, upper half across": horizontal[:, 15:].sum(1) / (horizontal.sum(1) + 1e-6),
        "spectrum, second quarter across": horizontal[:, 7:15].sum(1) / (horizontal.sum(1) + 1e-6),
        "spectrum, upper half down": vertical[:, 3:].sum(1) / (vertical.sum(1) + 1e-6),
        "colour gradient": np.mean(colour, axis=0),
    }


def main(config: DistanceConfig) -> int:
    pack = build_pack(
        config.root, cache_folder=Path(DataConfig().cache_folder).expanduser(), progress=progress_bar("packing")
    )
    high_res, real = (side.numpy().transpose(0, 2, 3, 1) for side in pack.gather(np.arange(len(pack))))
    small = np.stack([resize(Image.fromarray(picture), LOW_RES_SIZE) for picture in high_res])
    measured = {
        "real": measure(real),
        "clean": measure(small),
        "published": measure(np.stack([degrade(picture, i) for i, picture in enumerate(small)])),
        "camera": measure(np.stack([photograph(picture, i) for i, picture in enumerate(high_res)])),
    }
    distances = {
        name: {what: float(ks_2samp(values, measured["real"][what]).statistic) for what, values in found.items()}
        for name, found in measured.items()
        if name != "real"
    }
    config.output.mkdir(parents=True, exist_ok=True)
    (config.output / "distances.json").write_text(json.dumps(distances, indent=2) + "\n")
    draw(measured, config.output / "distances.png")
    print(f"| {len(real)} pictures | {' | '.join(distances)} |\n|---|{'---:|' * len(distances)}")
    for what in measured["real"]:
        print(f"| {what} | {' | '.join(f'{distances[name][what]:.3f}' for name in distances)} |")
    print(f"| **mean** | {' | '.join(f'{np.mean(list(d.values())):.3f}' for d in distances.values())} |")
    return 0


def draw(measured: Mapping[str, Mapping[str, np.ndarray]], path: Path) -> None:
    """Cumulative distributions, one panel for each thing measured."""
    figure = Figure(figsize=(14, 6.4), layout="constrained")
    styles = {
        "real": ("black", 2.2),
        "clean": ("#999999", 1.2),
        "published": ("#d95f02", 1.4),
        "camera": ("#1b7837", 1.8),
    }
    for axes, what in zip(figure.subplots(2, 4).flat, measured["real"], strict=True):
        for name, found in measured.items():
            colour, width = styles[name]
            values = np.sort(found[what])
            axes.plot(values, np.linspace(0, 100, len(values)), color=colour, lw=width, label=name)
        axes.set_xlim(0, np.percentile(np.concatenate([found[what] for found in measured.values()]), 97))
        axes.set_title(what, fontsize=10)
        axes.spines[["top", "right"]].set_visible(False)
    figure.axes[0].legend(frameon=False)
    figure.supylabel("% of pictures below", fontsize=10)
    figure.savefig(path, dpi=100)


if __name__ == "__main__":
    sys.exit(answer_mistakes(lambda: main(tyro.cli(DistanceConfig))))
