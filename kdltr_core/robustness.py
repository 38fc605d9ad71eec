"""How word accuracy falls as low_res gets worse: Gaussian blur and noise of growing strength."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from torch import Tensor

from kdltr_core.charset import Protocol
from kdltr_core.curves import COLOURS, GREY, INK, style_axes
from kdltr_core.data.degrade import gaussian_blur, gaussian_noise
from kdltr_core.data.pack import Pack
from kdltr_core.evaluation import KeyedPairs, read_benchmarks
from kdltr_core.metrics import standard_error
from kdltr_core.readings import Column
from kdltr_core.recognizers import Recognizer

Disturbance = Literal["gaussian_blur", "gaussian_noise"]

STRENGTHS: dict[Disturbance, tuple[float, ...]] = {
    "gaussian_blur": (0.0, 0.5, 1.0, 1.5, 2.0, 2.5),
    "gaussian_noise": (0.0, 5.0, 10.0, 15.0, 20.0),
}
_AXES: dict[Disturbance, str] = {
    "gaussian_blur": "Gaussian blur σ, low_res pixels",
    "gaussian_noise": "Gaussian noise σ, grey levels",
}


@dataclass(frozen=True)
class DisturbedPairs:
    """A pack whose low_res is disturbed when it is gathered: noise by a seed that is the row, blur by nothing."""

    pairs: Pack
    disturbance: Disturbance
    sigma: float

    @property
    def name(self) -> str:
        return self.pairs.name

    @property
    def labels(self) -> list[str]:
        return self.pairs.labels

    @property
    def keys(self) -> list[str]:
        return self.pairs.keys

    def __len__(self) -> int:
        return len(self.pairs)

    def gather(self, indices: np.ndarray) -> tuple[Tensor, Tensor]:
        """As ``Pack.gather``."""
        high_res, low_res = self.pairs.gather(indices)
        pixels = low_res.numpy()
        for place, row in enumerate(indices):
            image = pixels[place].transpose(1, 2, 0)
            if self.disturbance == "gaussian_blur":
                disturbed = gaussian_blur(np.ascontiguousarray(image), self.sigma)
            else:
                disturbed = gaussian_noise(image, self.sigma, int(row))
            pixels[place] = disturbed.transpose(2, 0, 1)
        return high_res, torch.from_numpy(pixels)


@dataclass(frozen=True)
class RobustnessCurves:
    """Accuracy over all words, in [0, 1], by disturbance, reader, and strength as in ``STRENGTHS``."""

    protocol: Protocol
    num_words: int
    accuracies: Mapping[Disturbance, Mapping[Column, tuple[float, ...]]]

    def to_json(self) -> str:
        tree = {
            "protocol": self.protocol,
            "num_words": self.num_words,
            "curves": {
                name: {"sigma": STRENGTHS[name], "accuracy": {c.key: values for c, values in by_column.items()}}
                for name, by_column in self.accuracies.items()
            },
        }
        return json.dumps(tree, indent=2, ensure_ascii=False) + "\n"

    def draw(self, path: str | Path) -> None:
        """A PNG of one panel a disturbance, with bands of one standard error."""
        figure = Figure(figsize=(11, 4.2), facecolor="white", layout="constrained")
        FigureCanvasAgg(figure)
        panels = figure.subplots(1, len(self.accuracies), sharey=True, squeeze=False)[0]
        for axes, (name, by_column) in zip(panels, self.accuracies.items(), strict=True):
            for i, (column, shares) in enumerate(by_column.items()):
                colour = COLOURS[i % len(COLOURS)]
                values = 100 * np.array(shares)
                errors = 100 * np.array([standard_error(share, self.num_words) for share in shares])
                axes.plot(STRENGTHS[name], values, "o-", color=colour, linewidth=2, markersize=4, label=column.title)
                axes.fill_between(
                    STRENGTHS[name], values - errors, values + errors, color=colour, alpha=0.15, linewidth=0
                )
            axes.set(ylim=(0, 100), xticks=STRENGTHS[name])
            style_axes(axes)
            axes.set_xlabel(_AXES[name], color=GREY)
        panels[0].set_title(f"word accuracy, % of {self.num_words} words", loc="left", fontsize=11, color=INK)
        figure.savefig(path, dpi=130)

    def write(self, folder: str | Path) -> None:
        """``curves.json`` and ``curves.png`` in a folder that is there."""
        (Path(folder) / "curves.json").write_text(self.to_json(), encoding="utf-8")
        self.draw(Path(folder) / "curves.png")


def measure_robustness(
    readers: Mapping[Column, Recognizer],
    packs: Mapping[str, Pack],
    *,
    batch_size: int,
    protocol: Protocol = "36",
    precision: str = "auto",
    progress: Callable[[int, int], None] | None = None,
) -> RobustnessCurves:
    """Read every set with every strength of every disturbance, by the readers of low_res (students, enlarged teacher).

    The disturbance comes on top of what low_res is already; for curves that start at clean images give packs of
    degradation "none".

    Raises: ValueError if nobody reads low_res.
    """
    readers = {column: reader for column, reader in readers.items() if column.image != "high_res"}
    rounds = [(name, sigma) for name, strengths in STRENGTHS.items() for sigma in strengths]
    accuracies: dict[Disturbance, dict[Column, list[float]]] = {n: {c: [] for c in readers} for n in STRENGTHS}
    for done, (name, sigma) in enumerate(rounds):
        disturbed: dict[str, KeyedPairs] = {set_name: DisturbedPairs(p, name, sigma) for set_name, p in packs.items()}

        def advance(part: int, whole: int, done: int = done) -> None:
            if progress is not None:
                progress(done * whole + part, len(rounds) * whole)

        table = read_benchmarks(
            readers, disturbed, batch_size=batch_size, protocol=protocol, precision=precision, progress=advance
        )
        for column in readers:
            accuracies[name][column].append(table.weighted(column)[0])
    frozen = {name: {c: tuple(v) for c, v in by_column.items()} for name, by_column in accuracies.items()}
    return RobustnessCurves(protocol, sum(map(len, packs.values())), frozen)
