"""What benchmark.py measures: each section runs all its rows in turns, so that they meet the same machine."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from kdltr_core.charset import Charset36
from kdltr_core.config import ObjectiveConfig, OptimConfig, RecognizerName
from kdltr_core.data.batch import encode_targets
from kdltr_core.data.lmdb_store import LmdbStore
from kdltr_core.data.pack import Pack
from kdltr_core.data.packed import build_pack
from kdltr_core.distiller import Distiller, as_float, autocast, teach
from kdltr_core.losses import compute_terms
from kdltr_core.losses.objective import term_weights
from kdltr_core.losses.sequence_targets import sequence_targets
from kdltr_core.optim import build_optimiser
from kdltr_core.recognizers import build_student, build_teacher
from kdltr_core.recognizers.permutations import sample_permutations
from pipelines.baselines_for_speed import decode_pairs, search_sequence_targets
from pipelines.speed_table import Row, Section


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
        seconds = medians({"LMDB + PIL": lambda: _each(lambda rows: decode_pairs(store, numbers[rows]), decoded),
                           "pack": lambda: _each(pack.gather, batches)}, repeats)  # fmt: skip
    finally:
        torch.set_num_threads(threads)
    counts = {"LMDB + PIL": sum(map(len, decoded)), "pack": len(order)}
    title = f"Pairs of {pack.name} ({len(pack)} pairs), batches of {batch_size}, one thread"
    return Section(title, "pairs", [Row(name, seconds[name], counts[name]) for name in seconds])


def sequence_section(repeats: int, device: torch.device) -> Section:
    """Sequence targets of 64 words, 26 steps and 37 classes; teachers of logit margin 14 at temperature 4."""
    probs = confident_probs(num_words=64, num_steps=26, num_classes=37, margin=14.0, temperature=4.0)
    on_device = probs.to(device)
    seconds = medians(
        {
            "priority queue, exact": lambda: search_sequence_targets(probs),
            "priority queue, 100 expansions": lambda: search_sequence_targets(probs, max_expansions=100),
            f"sequence_targets on {device.type}, exact": lambda: sequence_targets(on_device),
        },
        repeats,
        device,
    )
    title = "Sequence targets, 64 words × 26 steps × 37 classes, 6 paths, branching 3, logit margin 14, τ = 4"
    return Section(title, "words", [Row(name, value, len(probs)) for name, value in seconds.items()])


def step_section(
    pack: Pack, recognizer: RecognizerName, batch_size: int, repeats: int, device: torch.device, precision: str
) -> Section:
    """One training step, whole and by phase. The weights are random: speed does not depend on them."""
    config = ObjectiveConfig()
    teacher = build_teacher(recognizer).eval().requires_grad_(False).to(device)
    distiller = Distiller(build_student(recognizer), config).to(device)
    optimiser = build_optimiser(distiller, OptimConfig())
    rows = np.arange(batch_size) % len(pack)
    high_res, low_res = (pixels.to(device) for pixels in pack.gather(rows))
    labels = [pack.labels[row] if teacher.charset.normalise(pack.labels[row]) else "none" for row in rows]
    targets, lengths = (ids.to(device) for ids in encode_targets(labels, teacher.charset, teacher.fixed_num_steps))
    orders = sample_permutations(targets.shape[1] - 2, config.num_permutations, torch.Generator().manual_seed(0))
    orders = orders.to(device)

    phases: dict[str, list[float]] = {}
    for _ in range(repeats + 1):
        with stopwatch("whole step", phases, device):
            with stopwatch("teacher", phases, device), autocast(device, precision):
                lesson = teach(teacher, high_res, targets, orders)
            with stopwatch("student", phases, device), autocast(device, precision):
                output = distiller.student.forward_training(as_float(low_res), targets, orders)
            total: Tensor | float = 0.0
            for name in term_weights(config):
                alone = {other: 0.0 for other in term_weights(config) if other != name}
                with stopwatch(name, phases, device):
                    only = config.model_copy(update=alone)
                    total = total + compute_terms(only, output, lesson, distiller.projector, targets, lengths).total
            with stopwatch("backward", phases, device):
                optimiser.zero_grad(set_to_none=True)
                torch.as_tensor(total).backward()
            with stopwatch("clip and optimiser", phases, device):
                torch.nn.utils.clip_grad_norm_(distiller.parameters(), OptimConfig().clip_norm)
                optimiser.step()
    medians_of = {name: statistics.median(values[1:]) for name, values in phases.items()}
    names = ["whole step", *(name for name in medians_of if name != "whole step")]
    num_permutations, _, num_steps, _ = output.logits.shape
    reads = f"{num_permutations} permutations of {num_steps} steps" if num_permutations > 1 else f"{num_steps} steps"
    title = (
        f"Training step of {recognizer} on {device.type}, batch {batch_size}, {reads}, "
        "the device waited for after every phase"
    )
    return Section(title, "images", [Row(name, medians_of[name], batch_size) for name in names])


def confident_probs(num_words: int, num_steps: int, num_classes: int, margin: float, temperature: float) -> Tensor:
    """Softened distributions (N, T, C) of a teacher that reads random words of 2 to 11 characters."""
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(num_words, num_steps, num_classes, generator=generator)
    characters = torch.randint(1, num_classes, (num_words, num_steps), generator=generator)
    num_characters = torch.randint(2, min(12, num_steps), (num_words, 1), generator=generator)
    read = characters.masked_fill(torch.arange(num_steps) >= num_characters, Charset36.end_id)
    logits.scatter_add_(2, read[..., None], torch.full((num_words, num_steps, 1), margin))
    return (logits / temperature).softmax(dim=-1)


def medians(
    actions: Mapping[str, Callable[[], object]], repeats: int, device: torch.device | None = None
) -> dict[str, float]:
    """Median seconds of each action, run in turns after one warm-up round."""
    seconds: dict[str, list[float]] = {}
    for _ in range(repeats + 1):
        for name, action in actions.items():
            with stopwatch(name, seconds, device):
                action()
    return {name: statistics.median(values[1:]) for name, values in seconds.items()}


@contextmanager
def stopwatch(name: str, seconds: dict[str, list[float]], device: torch.device | None = None) -> Iterator[None]:
    """Appends the seconds of the block, the device's work included."""
    _wait_for(device)
    start = time.perf_counter()
    yield
    _wait_for(device)
    seconds.setdefault(name, []).append(time.perf_counter() - start)


def _wait_for(device: torch.device | None) -> None:
    if device is not None and device.type == "cuda":
        torch.cuda.synchronize(device)


def _each(action: Callable[[np.ndarray], object], batches: Sequence[np.ndarray]) -> None:
    for batch in batches:
        action(batch)
