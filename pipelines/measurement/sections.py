"""What benchmark.py measures: each section runs all its rows in turns, so that they meet the same machine."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from kdltr_core.charset import Charset36
from kdltr_core.data.lmdb_store import LmdbStore
from kdltr_core.data.packed import build_pack
from kdltr_core.losses.sequence_targets import sequence_targets
from pipelines.measurement.baselines import decode_pairs, search_sequence_targets
from pipelines.measurement.stopwatch import interleaved
from pipelines.measurement.table import Row, Section

LONG_SEARCH = 10_000


def gather_section(root: Path, cache_folder: Path, batch_size: int, repeats: int) -> Section:
    """Batches of pairs in random order, each row on one thread."""
    store, pack = LmdbStore.open(root), build_pack(root, cache_folder=cache_folder)
    numbers = np.array([int(key.rpartition("-")[2]) for key in pack.keys])
    order = np.random.default_rng(0).permutation(len(pack))
    num_batches = max(1, len(order) // batch_size)
    batches = np.array_split(order, num_batches)
    decoded = batches[: max(1, 512 // batch_size)]
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        timings = interleaved({"LMDB + PIL": lambda: _each(lambda rows: decode_pairs(store, numbers[rows]), decoded),
                            "pack": lambda: _each(pack.gather, batches)}, repeats)  # fmt: skip
    finally:
        torch.set_num_threads(threads)
    counts = {"LMDB + PIL": sum(map(len, decoded)), "pack": len(order)}
    title = f"Pairs of {pack.name} ({len(pack)} pairs), batches of {batch_size}, one thread"
    return Section(title, "pairs", [Row(name, timing, counts[name]) for name, timing in timings.items()])


def sequence_section(repeats: int, device: torch.device, margin: float) -> Section:
    """Sequence targets of 64 words, 26 steps and 37 classes, for teachers of one logit margin at temperature 4."""
    probs = confident_probs(num_words=64, num_steps=26, num_classes=37, margin=margin, temperature=4.0)
    rows = _search_rows({"textbook: priority queue, exact": None}, probs, repeats, device)
    return Section(f"{_sequence_title(probs)}, logit margin {margin:g}", "words", rows)


def teacher_sequence_section(probs: Tensor, whose: str, repeats: int, device: torch.device) -> Section:
    """Sequence targets of a teacher's distributions (N, T, C): unsure words would keep an unlimited queue for ever."""
    rows = _search_rows({f"priority queue, {LONG_SEARCH:,} expansions": LONG_SEARCH}, probs, repeats, device)
    found, exact = search_sequence_targets(probs, max_expansions=LONG_SEARCH), sequence_targets(probs)
    same = (found.distribution - exact.distribution.cpu()).abs().amax(dim=(1, 2)) < 1e-3
    return Section(f"{_sequence_title(probs)}, {whose}; the queue ends with {int(same.sum())} words", "words", rows)


def _search_rows(first: dict[str, int | None], probs: Tensor, repeats: int, device: torch.device) -> list[Row]:
    on_device = probs.to(device)
    actions: dict[str, Callable[[], object]] = {
        name: partial(search_sequence_targets, probs, max_expansions=limit)
        for name, limit in (first | {"priority queue, 100 expansions": 100}).items()
    }
    actions[f"sequence_targets on {device.type}, exact"] = lambda: sequence_targets(on_device)
    return [Row(name, timing, len(probs)) for name, timing in interleaved(actions, repeats, device).items()]


def _sequence_title(probs: Tensor) -> str:
    num_words, num_steps, num_classes = probs.shape
    shape = f"{num_words} words × {num_steps} steps × {num_classes} classes"
    return f"Sequence targets, {shape}, 6 paths, branching 3, τ = 4"


def confident_probs(num_words: int, num_steps: int, num_classes: int, margin: float, temperature: float) -> Tensor:
    """Softened distributions (N, T, C) of a teacher that reads random words of 2 to 11 characters."""
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(num_words, num_steps, num_classes, generator=generator)
    characters = torch.randint(1, num_classes, (num_words, num_steps), generator=generator)
    num_characters = torch.randint(2, min(12, num_steps), (num_words, 1), generator=generator)
    read = characters.masked_fill(torch.arange(num_steps) >= num_characters, Charset36.end_id)
    logits.scatter_add_(2, read[..., None], torch.full((num_words, num_steps, 1), margin))
    return (logits / temperature).softmax(dim=-1)


def _each(action: Callable[[np.ndarray], object], batches: Sequence[np.ndarray]) -> None:
    for batch in batches:
        action(batch)
