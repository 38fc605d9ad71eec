"""What speed_of_training measures: data, sequence targets, and a recipe's training step.

The rows of a table are interleaved, so that they meet the same machine.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.reference_step import decode_pairs, reference_terms, search_sequence_targets
from benchmarks.speed_table import Measured, SpeedTable
from benchmarks.stopwatch import CallTimes, interleaved, matrix_rate, stopwatch
from kdltr_core.charset import Charset36
from kdltr_core.config import RunConfig
from kdltr_core.data.batch import Batch, encode_targets, valid_rows
from kdltr_core.data.images import as_float
from kdltr_core.data.lmdb_store import LmdbStore
from kdltr_core.data.pack import Pack, build_pack
from kdltr_core.device import autocast
from kdltr_core.losses import LossTerms, compute_terms
from kdltr_core.losses.objective import term_weights
from kdltr_core.losses.sequence_targets import sequence_targets
from kdltr_core.recognizers import build_student, build_teacher
from kdltr_core.recognizers.permutations import sample_permutations
from kdltr_core.train.build import BUNDLED_TEACHERS, build_pair
from kdltr_core.train.distiller import Distiller, teach
from kdltr_core.train.optim import build_optimiser

# As published: a teacher that is confident of nothing has too many paths to try them all.
PUBLISHED_EXPANSIONS = 100
LONG_SEARCH = 10_000


class Bench:
    """Pair, optimiser and words of a recipe. Without a teacher at hand the weights are random."""

    def __init__(self, config: RunConfig, pack: Pack, batch_size: int, device: torch.device) -> None:
        self.config, self.pack, self.device, self.name = config, pack, device, config.recognizer.name
        torch.manual_seed(0)
        self.is_trained = self.name in BUNDLED_TEACHERS and not config.recognizer.teacher_name
        if self.is_trained:
            student, teacher = build_pair(config, device)
            assert teacher is not None
        else:
            student, teacher = build_student(self.name), build_teacher(self.name).eval().requires_grad_(False)
        self.teacher = teacher.to(device)
        self.distiller = Distiller(student, config.objective, self.teacher).to(device).train()
        self.optimiser = build_optimiser(self.distiller, config.optim)
        readable = [row for row in range(len(pack)) if student.charset.normalise(pack.labels[row])]
        self.order_seed = 0
        self.rows = np.resize(np.random.default_rng(0).permutation(readable), batch_size)

    def batch(self, num_steps: int = 0) -> Batch:
        """What the loader does for a step, degradation apart, up to the device; 0 steps: as many as are needed."""
        student = self.distiller.student
        labels = tuple(self.pack.labels[row] for row in self.rows)
        longest = max(len(student.charset.normalise(label)) for label in labels)
        needed = num_steps or student.fixed_num_steps or longest + 1
        targets, lengths = encode_targets(labels, student.charset, needed)
        steps = valid_rows(lengths, needed)
        return Batch(*self.pack.gather(self.rows), labels, targets, lengths, self.rows, steps).to(self.device)

    def orders(self, batch: Batch) -> Tensor:
        generator = torch.Generator().manual_seed(self.order_seed)
        num_orders = self.config.objective.num_permutations
        return sample_permutations(batch.targets.shape[1] - 2, num_orders, generator).to(self.device)

    @torch.no_grad()
    def softened(self, num_steps: int, temperature: float) -> Tensor:
        """The teacher's distributions (N, T, C) of the batch's words, each read from left to right."""
        batch = self.batch(num_steps)
        output = teach(self.teacher, batch.high_res, batch.targets, self.orders(batch)[:1])
        return (output.logits[0].float() / temperature).softmax(dim=-1)

    def fast(self, precision: str) -> LossTerms:
        batch = self.batch()
        orders = self.orders(batch)
        with autocast(self.device, precision):
            taught = teach(self.teacher, batch.high_res, batch.targets, orders)
            terms = self.distiller(batch.low_res, batch.targets, batch.lengths, orders, taught, None, batch.rows)
        self.learn(terms.total)
        return terms

    def reference(self) -> LossTerms:
        batch = self.batch()
        limit = None if self.is_trained else PUBLISHED_EXPANSIONS
        given = (batch.high_res, batch.low_res, batch.targets, batch.lengths)
        terms = reference_terms(self.distiller, self.teacher, *given, self.orders(batch), limit)
        self.learn(terms.total)
        return terms

    def learn(self, loss: Tensor) -> None:
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        self.update()

    def update(self) -> None:
        torch.nn.utils.clip_grad_norm_(self.distiller.parameters(), self.config.optim.clip_norm)
        self.optimiser.step()


def gather_table(root: Path, cache_folder: Path, batch_size: int, repeats: int) -> SpeedTable:
    """Batches of pairs in random order, each row on one thread."""
    store, pack = LmdbStore.open(root), build_pack(root, cache_folder=cache_folder)
    numbers = np.array([int(key.rpartition("-")[2]) for key in pack.keys])
    order = np.random.default_rng(0).permutation(len(pack))
    batches = np.array_split(order, max(1, len(order) // batch_size))
    decoded = batches[: max(1, 512 // batch_size)]
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        times = interleaved(
            {
                "LMDB + PIL": lambda: [decode_pairs(store, numbers[rows]) for rows in decoded],
                "pack": lambda: [pack.gather(rows) for rows in batches],
            },
            repeats,
        )
    finally:
        torch.set_num_threads(threads)
    counts = {"LMDB + PIL": sum(map(len, decoded)), "pack": len(order)}
    title = f"Pairs of {pack.name} ({len(pack)} pairs), batches of {batch_size}, one thread"
    return SpeedTable(title, "pairs", [Measured(name, each, counts[name]) for name, each in times.items()])


def sequence_table(repeats: int, device: torch.device, margin: float) -> SpeedTable:
    """Sequence targets of 64 words, 26 steps and 37 classes, for teachers of one logit margin at temperature 4."""
    probs = confident_probs(num_words=64, num_steps=26, num_classes=37, margin=margin, temperature=4.0)
    return _searches("textbook: priority queue, exact", None, probs, f"logit margin {margin:g}", repeats, device)


def teacher_sequence_table(probs: Tensor, whose: str, repeats: int, device: torch.device) -> SpeedTable:
    """Sequence targets of a teacher's distributions (N, T, C): unsure words would keep an unlimited queue for ever."""
    found, exact = search_sequence_targets(probs, max_expansions=LONG_SEARCH), sequence_targets(probs)
    same = (found.distribution - exact.distribution.cpu()).abs().amax(dim=(1, 2)) < 1e-3
    about = f"{whose}; the queue ends with {int(same.sum())} words"
    return _searches(f"priority queue, {LONG_SEARCH:,} expansions", LONG_SEARCH, probs, about, repeats, device)


def _searches(
    first: str, limit: int | None, probs: Tensor, about: str, repeats: int, device: torch.device
) -> SpeedTable:
    on_device = probs.to(device)
    actions: dict[str, Callable[[], object]] = {
        first: partial(search_sequence_targets, probs, max_expansions=limit),
        "priority queue, 100 expansions": partial(search_sequence_targets, probs, max_expansions=PUBLISHED_EXPANSIONS),
        f"sequence_targets on {device.type}, exact": lambda: sequence_targets(on_device),
    }
    shape = " × ".join(f"{n} {unit}" for n, unit in zip(probs.shape, ("words", "steps", "classes"), strict=True))
    title = f"Sequence targets, {shape}, 6 paths, branching 3, τ = 4, {about}"
    return SpeedTable(title, "words", _rows(interleaved(actions, repeats, device), len(probs)))


def confident_probs(num_words: int, num_steps: int, num_classes: int, margin: float, temperature: float) -> Tensor:
    """Softened distributions (N, T, C) of a teacher that reads random words of 2 to 11 characters."""
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(num_words, num_steps, num_classes, generator=generator)
    characters = torch.randint(1, num_classes, (num_words, num_steps), generator=generator)
    num_characters = torch.randint(2, min(12, num_steps), (num_words, 1), generator=generator)
    read = characters.masked_fill(torch.arange(num_steps) >= num_characters, Charset36.end_id)
    logits.scatter_add_(2, read[..., None], torch.full((num_words, num_steps, 1), margin))
    return (logits / temperature).softmax(dim=-1)


def train_table(make: Callable[[], Bench], repeats: int, precision: str) -> SpeedTable:
    """Whole training steps, the reference's and the fast one, each with a student of its own."""
    reference, fast = make(), make()
    device, batch = fast.device, fast.batch()
    actions: dict[str, Callable[[], object]]
    actions = {"reference, float32": reference.reference, f"fast, {precision}": partial(fast.fast, precision)}
    work = step_multiply_accumulates(fast)
    rows = _rows(interleaved(actions, repeats, device), len(fast.rows), work)
    weights = "bundled teacher" if fast.is_trained else "random weights; the reference stops at 100 expansions"
    size = f"batch {len(fast.rows)}, {batch.targets.shape[1] - 1} steps"
    with autocast(device, precision):
        is_narrow = torch.is_autocast_enabled(device.type)
    rate = matrix_rate(device, torch.bfloat16 if is_narrow else torch.float32)
    title = f"Training step of {fast.name} on {device.type}, {size}, {weights}"
    return SpeedTable(title, "images", rows, rate, on_gpu=device.type == "cuda")


def phase_table(bench: Bench, repeats: int, precision: str) -> SpeedTable:
    """The fast step by phase, the device waited for after each."""
    config, device, projector = bench.config.objective, bench.device, bench.distiller.projector
    times: dict[str, CallTimes] = {"whole step": CallTimes()}
    for turn in range(repeats + 1):
        with stopwatch("whole step", times, device):
            with stopwatch("data", times, device):
                batch = bench.batch()
                orders = bench.orders(batch)
            with stopwatch("teacher", times, device), autocast(device, precision):
                taught = teach(bench.teacher, batch.high_res, batch.targets, orders)
            with stopwatch("student", times, device), autocast(device, precision):
                output = bench.distiller.student.forward_training(as_float(batch.low_res), batch.targets, orders)
            total: Tensor = torch.zeros((), device=device)
            words = (batch.targets, batch.lengths, None, batch.rows)
            for name in term_weights(config):
                alone = config.model_copy(update={other: 0.0 for other in term_weights(config) if other != name})
                with stopwatch(name, times, device), autocast(device, precision):
                    total = total + compute_terms(alone, output, taught, projector, *words).total
            with stopwatch("backward", times, device):
                bench.optimiser.zero_grad(set_to_none=True)
                total.backward()
            with stopwatch("clip and optimiser", times, device):
                bench.update()
        if turn == 0:
            times = {name: CallTimes() for name in times}
    title = f"Phases of a fast step of {bench.name} on {device.type}, batch {len(bench.rows)}, {precision}"
    return SpeedTable(title, "images", _rows(times, len(bench.rows)))


def step_multiply_accumulates(bench: Bench) -> int:
    """Of a fast step, backward included; torch's counter sees no LSTM, which is added by its formula."""
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        bench.fast("float32")
    batch, projector = bench.batch(), bench.distiller.projector
    total = counter.get_total_flops() // 2
    if projector is not None:
        num_orders = len(bench.orders(batch)) if bench.distiller.student.uses_permutations else 1
        steps = 2 * num_orders * batch.targets[:, 1:].numel()
        width, hidden = projector.rnn.input_size, projector.rnn.hidden_size
        # Two directions, four gates; the backward pass is twice the forward pass.
        total += 3 * steps * 2 * 4 * hidden * (width + hidden)
    return total


def _rows(times: Mapping[str, CallTimes], num_items: int, multiply_accumulates: int = 0) -> list[Measured]:
    return [Measured(name, each, num_items, multiply_accumulates) for name, each in times.items()]
