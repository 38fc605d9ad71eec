"""Parameters and multiply-accumulates as a Markdown table and JSON, beside the figures published for three students."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from kdltr_core.evaluation.complexity import LAYERS_WORD_LENGTH, WORD_LENGTHS, Complexity


@dataclass(frozen=True)
class Published:
    """Of a student in Guo et al. 2023 (arXiv 2308.02770): parameters in M, multiply-accumulates in G."""

    parameters: float
    multiply_accumulates: float


PUBLISHED: Mapping[str, Published] = {
    "abinet": Published(36.74, 5.46),
    "matrn": Published(44.16, 9.86),
    "parseq": Published(23.81, 2.93),
}


def published_of(row: Complexity) -> Published | None:
    """What the paper says of this recognizer; it has no figures for teachers."""
    return PUBLISHED.get(row.recognizer) if row.role == "student" else None


def to_json(rows: Sequence[Complexity]) -> list[dict[str, Any]]:
    """The counts as they are, and the published figures (in M and G) or null."""
    published = [published_of(row) for row in rows]
    return [{**asdict(row), "published": found and asdict(found)} for row, found in zip(rows, published, strict=True)]


def to_markdown(rows: Sequence[Complexity]) -> str:
    """One row a recognizer and role, then what the columns mean and why they differ."""
    head = ["recognizer", "role", "parameters, M", "published parameters, M", "buffers, M"]
    head += [f"{kind}, {length} characters, G" for kind in ("reading", "training forward") for length in WORD_LENGTHS]
    head += ["counter of layers, G", "published, G"]
    lines = ["# Parameters and multiply-accumulates of one image", ""]
    lines += ["| " + " | ".join(head) + " |", "|---|---|" + "---:|" * (len(head) - 2)]
    lines += ["| " + " | ".join(_cells(row)) + " |" for row in rows]
    return "\n".join([*lines, "", *_NOTES, *_differences(rows)]) + "\n"


def _cells(row: Complexity) -> list[str]:
    published = published_of(row)
    counts = [*row.reading.values(), *row.training.values(), row.layers_only]
    return [
        row.recognizer,
        row.role,
        f"{row.parameters / 1e6:.2f}",
        f"{published.parameters:.2f}" if published else "",
        f"{row.buffers / 1e6:.2f}",
        *(f"{count / 1e9:.2f}" for count in counts),
        f"{published.multiply_accumulates:.2f}" if published else "",
    ]


_NOTES = (
    "- Reading and training forward: every product of convolutions, linear layers and attention, as computed here. "
    "The training forward is without its backward; PARSeq's reads in 6 permutations. ABINet and MATRN take 26 steps "
    "whatever the word. PARSeq reads character by character up to the end, then refines all at once; on a GPU it "
    "notices the end up to 3 steps later.",
    "- Teacher and student of a family have maps, or tokens, of the same number: small pictures save no arithmetic.",
    "- Counter of layers: what ptflops 0.6.9, which the public code imports, counts of models built as the published "
    "ones are. It gives the published figures. It sees layers, and normalisations at two per value; it does not see "
    "the attention of ABINet and MATRN, projections included, nor the attention products of PARSeq's encoder. For "
    f"PARSeq the word has {LAYERS_WORD_LENGTH} characters: with its refinement, no other length gives the published "
    "figure.",
)


def _differences(rows: Sequence[Complexity]) -> list[str]:
    """Why a reading is not what was published."""
    lines = []
    for row in rows:
        published = published_of(row)
        if published and row.recognizer == "parseq":
            lines.append(
                "- parseq: two differences cancel. The attention products of the encoder are not in the published "
                "figure; keys and values of the image, which are made once here, are in it for every step and for the "
                "refinement. The rest is the length of the word."
            )
        elif published:
            more = row.reading[max(WORD_LENGTHS)] / 1e9 - published.multiply_accumulates
            lines.append(
                f"- {row.recognizer}: a reading has {more:.2f} G more than was published: the attention, less the "
                "normalisations counted there."
            )
    return lines
