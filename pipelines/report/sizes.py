"""The sizes of the recognizers: parameters, and multiply-accumulates of one image."""

from __future__ import annotations

import json
from collections.abc import Sequence
from importlib.resources import files
from typing import Any

# Characters of the words whose reading and training forward were counted.
WORD_LENGTHS = (5, 25)


def recognizer_sizes() -> list[dict[str, Any]]:
    """Every recognizer as teacher and as student: parameters, multiply-accumulates of one image, what was published.

    They are constants of the architectures: kept as data, which a test counts anew, but for ``layers_only``, counted
    at commit a7f5cac. Published (in M and G) are those of three students in Guo et al. 2023 (arXiv 2308.02770).
    """
    return json.loads(files("pipelines.report").joinpath("complexity.json").read_text())


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
