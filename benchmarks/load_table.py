"""What clients saw of services, as a table and as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from benchmarks.load import PERCENTILES, Load


def to_markdown(seen: dict[str, list[Load]]) -> str:
    """A row for each number of clients and service; rates beside the last service's."""
    lines = ["| clients | reads | requests/s | | " + " | ".join(f"p{p}, ms" for p in PERCENTILES) + " | failed |"]
    lines += ["|---:|---|---:|---:|" + "---:|" * (len(PERCENTILES) + 1)]
    last = list(seen.values())[-1]
    for place, base in enumerate(last):
        for name, loads in seen.items():
            load = loads[place]
            ratio = f"× {load.requests_per_second / base.requests_per_second:.2f}" if load is not base else ""
            times = " | ".join(f"{load.percentile(percent):.0f}" for percent in PERCENTILES)
            rate = f"{load.requests_per_second:.1f}"
            lines.append(f"| {load.clients} | {name} | {rate} | {ratio} | {times} | {load.num_failed} |")
    return "\n".join(lines) + "\n"


def to_json(seen: dict[str, list[Load]], options: dict[str, Any], about: dict[str, Any]) -> dict[str, Any]:
    """Every figure as measured."""

    def row(load: Load) -> dict[str, Any]:
        times: Sequence[float] = [load.percentile(percent) for percent in PERCENTILES]
        named = {f"p{percent}_ms": ms for percent, ms in zip(PERCENTILES, times, strict=True)}
        return {
            "clients": load.clients,
            "requests_per_second": load.requests_per_second,
            "num_failed": load.num_failed,
            **named,
        }

    return {
        "options": options,
        "machine": about,
        "seen": {name: [row(load) for load in loads] for name, loads in seen.items()},
    }
