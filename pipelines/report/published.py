"""Figures of Guo et al. 2023 (arXiv 2308.02770), as published; nothing here was measured by this software."""

from __future__ import annotations

from dataclasses import dataclass

SETS = ("easy", "medium", "hard")
NOTICE = "Published, TextZoom, not measured here"


@dataclass(frozen=True)
class PublishedRow:
    """Word accuracies in per cent on TextZoom; ``by_set`` is empty where only the mean is given.

    ``multiply_accumulates`` in G, ``parameters`` in M: of a student; 0 where the paper does not say.
    """

    recognizer: str
    method: str
    by_set: tuple[float, ...]
    mean: float
    multiply_accumulates: float = 0.0
    parameters: float = 0.0


ROWS = (
    PublishedRow("ABINet", "enlarged (bicubic), teacher", (77.52, 56.98, 42.81), 60.23),
    PublishedRow("ABINet", "super-resolution (C3-STISR), teacher", (), 67.03),
    PublishedRow("ABINet", "DFD student", (), 69.70),
    PublishedRow("ABINet", "A-SKD student", (), 68.97),
    PublishedRow("ABINet", "Unified student", (), 70.59),
    PublishedRow("ABINet", "DLD student", (), 71.67),
    PublishedRow("ABINet", "KD-LTR student", (86.91, 72.36, 55.10), 72.45, 5.46, 36.74),
    PublishedRow("MATRN", "enlarged (bicubic), teacher", (80.42, 58.97, 44.97), 62.61),
    PublishedRow("MATRN", "super-resolution (C3-STISR), teacher", (), 67.96),
    PublishedRow("MATRN", "KD-LTR student", (86.91, 73.14, 56.96), 73.27, 9.86, 44.16),
    PublishedRow("PARSeq", "enlarged (bicubic), teacher", (90.36, 75.34, 57.11), 75.30),
    PublishedRow("PARSeq", "super-resolution (C3-STISR), teacher", (), 68.83),
    PublishedRow("PARSeq", "KD-LTR student", (90.36, 78.88, 63.22), 78.23, 2.93, 23.81),
)
