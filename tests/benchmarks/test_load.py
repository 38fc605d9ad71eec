"""What the load test tells follows from what was answered."""

from __future__ import annotations

import numpy as np

from benchmarks.load import Load, load_table


def test_the_table_has_rates_and_percentiles_of_what_was_answered() -> None:
    quick = Load.joined([Load(8, np.array([0.1, 0.2, 0.3]), 0, 1.0), Load(8, np.array([0.2]), 1, 1.0)])
    slow = Load(8, np.array([0.5, 0.5]), 0, 2.0)
    rows = load_table({"batches": [quick], "one at a time": [slow]}).splitlines()[2:]
    assert rows[0].startswith("| 8 | batches | 2.0 | × 2.00 | 200 |")
    assert rows[0].endswith("| 1 |")
    assert rows[1] == "| 8 | one at a time | 1.0 |  | 500 | 500 | 500 | 0 |"
