"""Tables of benchmark.py: speeds as JSON and Markdown, and the sizes of the recognizers, which are data."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np

from pipelines.measurement.stopwatch import CallTimes

# Characters of the words whose reading and training forward were counted.
WORD_LENGTHS = (5, 25)


@dataclass(frozen=True)
class Measured:
    """One thing measured.

    Attributes:
        name: what it is.
        times: of its calls.
        num_items: handled by one call.
        multiply_accumulates: of one call; 0: not counted.
    """

    name: str
    times: CallTimes
    num_items: int
    multiply_accumulates: int = 0


@dataclass(frozen=True)
class SpeedTable:
    """Rows that are compared with the first of them.

    Attributes:
        unit: of the items.
        matrix_rate: multiply-accumulates a second that the device was seen to reach; 0: not measured.
        on_gpu: the device is not the processor, whose own time is then beside the point.
    """

    title: str
    unit: str
    rows: Sequence[Measured]
    matrix_rate: float = 0.0
    on_gpu: bool = False

    def figures(self) -> dict[str, Any]:
        """For JSON; "speed" is that of one item, relative to the first row."""
        rows = [self._figures(row) for row in self.rows]
        return {"title": self.title, "unit": self.unit, "matrix_rate": self.matrix_rate, "rows": rows}

    def _figures(self, row: Measured) -> dict[str, Any]:
        first = self.rows[0]
        lower, median, upper, p95 = np.percentile(row.times.seconds, (25, 50, 75, 95)).tolist()
        seconds = {"median": median, "quartiles": [lower, upper], "p95": p95, "repeats": len(row.times.seconds)}
        processor, processor_first = (float(np.median(each.times.processor_seconds)) for each in (row, first))
        figures = {
            "name": row.name,
            "seconds": seconds,
            "processor_seconds": processor,
            "items": row.num_items,
            "items_per_second": row.num_items / median,
            "speed": first.times.median / first.num_items * row.num_items / median,
            "processor_speed": processor_first / first.num_items * row.num_items / processor,
            "peak_memory_bytes": row.times.memory,
        }
        if row.multiply_accumulates:
            # On a CPU that others use as well, a second of the clock says little of what the device can do.
            rate = row.multiply_accumulates / (median if self.on_gpu else processor)
            figures |= {"flops_per_second": 2 * rate, "fraction_of_matrix_rate": rate / self.matrix_rate}
        return figures

    def markdown(self) -> str:
        """Speeds, processor time and fraction of time are relative to the first row."""
        lines = [f"## {self.title}", ""]
        if self.matrix_rate:
            lines += [f"Matrix rate of the device: {2 * self.matrix_rate / 1e9:,.0f} GFLOP/s.", ""]
        lines += [
            f"| | ms (quartiles) | {self.unit}/s | speed | by processor time | time | of matrix rate | peak MiB |",
            "|---|---:|---:|---:|---:|---:|---:|---:|",
        ]
        for row in self.figures()["rows"]:
            lower, upper = row["seconds"]["quartiles"]
            rate, fraction = row["items_per_second"], row.get("fraction_of_matrix_rate")
            cells = [
                row["name"],
                f"{1000 * row['seconds']['median']:.2f} ({1000 * lower:.2f}–{1000 * upper:.2f})",
                f"{rate:,.0f}" if rate >= 100 else f"{rate:.3g}",  # a slow step is not 0 images a second
                f"{row['speed']:,.2f}×",
                f"{row['processor_speed']:,.2f}×",
                f"{1 / row['speed']:.1%}",
                f"{fraction:.1%}" if fraction else "",
                f"{row['peak_memory_bytes'] / 2**20:,.0f}",
            ]
            lines.append("| " + " | ".join(cells) + " |")
        return "\n".join(lines) + "\n"


def tell(folder: Path, name: str, figures: Any, page: str) -> None:
    """Print a page of Markdown, and leave it in the folder beside its figures as JSON."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.json").write_text(json.dumps(figures, indent=2) + "\n")
    (folder / f"{name}.md").write_text(page)
    print(page)


def tell_speeds(folder: Path, name: str, about: str, machine: dict[str, object], tables: Sequence[SpeedTable]) -> None:
    """As ``tell``, of the tables measured on a machine; ``about`` is what precedes them."""
    where = ", ".join(f"{name} {value}" for name, value in machine.items())
    figures = {"machine": machine, "sections": [table.figures() for table in tables]}
    tell(folder, name, figures, "\n".join([f"{about}\n\n{where}\n", *(table.markdown() for table in tables)]))


def recognizer_sizes() -> list[dict[str, Any]]:
    """Every recognizer as teacher and as student: parameters, multiply-accumulates of one image, what was published.

    They are constants of the architectures: kept as data, which a test counts anew, but for ``layers_only``, counted
    at commit a7f5cac. Published (in M and G) are those of three students in Guo et al. 2023 (arXiv 2308.02770).
    """
    return json.loads(files("pipelines.measurement").joinpath("complexity.json").read_text())


def sizes_markdown(rows: Sequence[dict[str, Any]]) -> str:
    """One row a recognizer and role, then what the columns mean and why they differ."""
    head = ["recognizer", "role", "parameters, M", "published parameters, M", "buffers, M"]
    head += [f"{kind}, {length} characters, G" for kind in ("reading", "training forward") for length in WORD_LENGTHS]
    head += ["counter of layers, G", "published, G"]
    lines = ["# Parameters and multiply-accumulates of one image", ""]
    lines += ["| " + " | ".join(head) + " |", "|---|---|" + "---:|" * (len(head) - 2)]
    for row in rows:
        published = row["published"] or {}
        counts = [*row["reading"].values(), *row["training"].values(), row["layers_only"]]
        cells = [row["recognizer"], row["role"], f"{row['parameters'] / 1e6:.2f}", published.get("parameters", "")]
        cells += [f"{row['buffers'] / 1e6:.2f}", *(f"{count / 1e9:.2f}" for count in counts)]
        lines.append("| " + " | ".join(map(str, [*cells, published.get("multiply_accumulates", "")])) + " |")
    return "\n".join([*lines, "", _NOTES])


_NOTES = """\
- Reading and training forward: every product of convolutions, linear layers and attention, as computed here. The
  training forward is without its backward; PARSeq's reads in 6 permutations. ABINet and MATRN take 26 steps whatever
  the word. PARSeq reads character by character up to the end, then refines all at once; on a GPU it notices the end up
  to 3 steps later.
- Teacher and student of a family have maps, or tokens, of the same number: small pictures save no arithmetic.
- Counter of layers: what ptflops 0.6.9, which the public code imports, counts of models built as the published ones
  are. It gives the published figures. It sees layers, and normalisations at two per value; it does not see the
  attention of ABINet and MATRN, projections included, nor the attention products of PARSeq's encoder. For PARSeq the
  word has 3 characters: with its refinement, no other length gives the published figure.
- A reading of ABINet and MATRN has more than was published: the attention, less the normalisations counted there. With
  PARSeq two differences cancel: the attention products of the encoder are not in the published figure; keys and values
  of the image, which are made once here, are in it for every step and for the refinement.
"""
