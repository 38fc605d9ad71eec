"""A recipe's training step and its student's reading, measured against the plain way."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from kdltr_core.config import RunConfig
from kdltr_core.data.batch import Batch, encode_targets, valid_rows
from kdltr_core.data.dataset import TrainingPairs
from kdltr_core.data.images import as_float
from kdltr_core.data.pack import Pack
from kdltr_core.device import autocast
from kdltr_core.losses import LossTerms, compute_terms
from kdltr_core.losses.objective import term_weights
from kdltr_core.recognizers import build_student, build_teacher
from kdltr_core.recognizers.permutations import sample_permutations
from kdltr_core.train.build import BUNDLED_TEACHERS, build_pair
from kdltr_core.train.distiller import Distiller, teach
from kdltr_core.train.optim import build_optimiser
from pipelines.measurement.plain_step import plain_terms
from pipelines.measurement.stopwatch import Timing, interleaved, matrix_rate, stopwatch
from pipelines.measurement.table import Row, Section

FLOAT32, BFLOAT16 = "float32", "bfloat16"
# As published: a teacher that is sure of nothing has too many paths to try them all.
_MOST_EXPANSIONS = 100


class Bench:
    """Pair, optimiser and words of a recipe. Without a teacher at hand the weights are random."""

    def __init__(self, config: RunConfig, pack: Pack, batch_size: int, device: torch.device) -> None:
        self.config, self.pack, self.device, self.name = config, pack, device, config.recognizer.name
        torch.manual_seed(0)
        self.knows = self.name in BUNDLED_TEACHERS and not config.recognizer.teacher_name
        if self.knows:
            pairs = TrainingPairs([pack], np.arange(len(pack)), "none", "speed")
            student, self.teacher = build_pair(config, pairs, device)
        else:
            student, self.teacher = build_student(self.name), build_teacher(self.name).eval().requires_grad_(False)
        assert self.teacher is not None
        self.teacher.to(device)
        self.distiller = Distiller(student, config.objective, self.teacher).to(device).train()
        self.optimiser = build_optimiser(self.distiller, config.optim)
        readable = [row for row in range(len(pack)) if student.charset.normalise(pack.labels[row])]
        self.order_seed = 0
        self.rows = np.resize(np.random.default_rng(0).permutation(readable), batch_size)

    def batch(self, num_steps: int = 0) -> Batch:
        """What the loader does for a step, degradation apart, up to the device; 0 steps: as many as are needed."""
        student = self.distiller.student
        labels = tuple(self.pack.labels[row] for row in self.rows)
        needed = (
            num_steps or student.fixed_num_steps or max(len(student.charset.normalise(label)) for label in labels) + 1
        )
        targets, lengths = encode_targets(labels, student.charset, needed)
        steps = valid_rows(lengths, needed, self.config.objective.contrast_group)
        return Batch(*self.pack.gather(self.rows), labels, targets, lengths, self.rows, steps).to(self.device)

    @torch.no_grad()
    def softened(self, num_steps: int, temperature: float) -> Tensor:
        """The teacher's distributions (N, T, C) of the batch's words, each read from left to right."""
        assert self.teacher is not None
        batch = self.batch(num_steps=num_steps)
        lesson = teach(self.teacher, batch.high_res, batch.targets, self.orders(batch)[:1])
        return (lesson.logits[0].float() / temperature).softmax(dim=-1)

    def orders(self, batch: Batch) -> Tensor:
        generator = torch.Generator().manual_seed(self.order_seed)
        num_orders = self.config.objective.num_permutations
        return sample_permutations(batch.targets.shape[1] - 2, num_orders, generator).to(self.device)

    def fast(self, precision: str) -> LossTerms:
        assert self.teacher is not None
        batch = self.batch()
        orders = self.orders(batch)
        with autocast(self.device, precision):
            lesson = teach(self.teacher, batch.high_res, batch.targets, orders)
            terms = self.distiller(batch.low_res, batch.targets, batch.lengths, orders, lesson, None, batch.rows)
        self.learn(terms.total)
        return terms

    def plain(self) -> LossTerms:
        batch = self.batch()
        assert self.teacher is not None
        images = batch.high_res, batch.low_res
        terms = plain_terms(
            self.distiller,
            self.teacher,
            *images,
            batch.targets,
            batch.lengths,
            self.orders(batch),
            None if self.knows else _MOST_EXPANSIONS,
        )
        self.learn(terms.total)
        return terms

    def learn(self, loss: Tensor) -> None:
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        self.update()

    def update(self) -> None:
        torch.nn.utils.clip_grad_norm_(self.distiller.parameters(), self.config.optim.clip_norm)
        self.optimiser.step()


def train_section(make: Callable[[], Bench], repeats: int, precision: str) -> Section:
    """Whole training steps, plain and fast, each with a student of its own."""
    plain, fast = make(), make()
    device = plain.device
    actions: dict[str, Callable[[], object]]
    actions = {"plain, float32": plain.plain, f"fast, {precision}": partial(fast.fast, precision)}
    work = step_multiply_accumulates(fast)
    timings = interleaved(actions, repeats, device)
    batch = fast.batch()
    title = (
        f"Training step of {plain.name} on {device.type}, batch {len(fast.rows)}, {batch.targets.shape[1] - 1} steps, "
        f"{'bundled teacher' if plain.knows else 'random weights; plain sequence targets stop at 100 expansions'}"
    )
    rows = [Row(name, timing, len(fast.rows), work) for name, timing in timings.items()]
    rate = matrix_rate(device, _dtype(device, precision))
    return Section(title, "images", rows, rate, on_gpu=device.type == "cuda")


def phase_section(bench: Bench, repeats: int, precision: str) -> Section:
    """The fast step by phase, the device waited for after each."""
    config, device = bench.config.objective, bench.device
    timings: dict[str, Timing] = {}
    for turn in range(repeats + 1):
        with stopwatch("whole step", timings, device):
            with stopwatch("data", timings, device):
                batch = bench.batch()
                orders = bench.orders(batch)
            with stopwatch("teacher", timings, device), autocast(device, precision):
                assert bench.teacher is not None
                lesson = teach(bench.teacher, batch.high_res, batch.targets, orders)
            with stopwatch("student", timings, device), autocast(device, precision):
                output = bench.distiller.student.forward_training(as_float(batch.low_res), batch.targets, orders)
            total: Tensor = torch.zeros((), device=device)
            for name in term_weights(config):
                alone = config.model_copy(update={other: 0.0 for other in term_weights(config) if other != name})
                with stopwatch(name, timings, device), autocast(device, precision):
                    total = (
                        total
                        + compute_terms(
                            alone,
                            output,
                            lesson,
                            bench.distiller.projector,
                            batch.targets,
                            batch.lengths,
                            None,
                            batch.rows,
                        ).total
                    )
            with stopwatch("backward", timings, device):
                bench.optimiser.zero_grad(set_to_none=True)
                total.backward()
            with stopwatch("clip and optimiser", timings, device):
                bench.update()
        if turn == 0:
            timings.clear()
    names = ["whole step", *(name for name in timings if name != "whole step")]
    title = f"Phases of a fast step of {bench.name} on {device.type}, batch {len(bench.rows)}, {precision}"
    return Section(title, "images", [Row(name, timings[name], len(bench.rows)) for name in names])


def read_sections(
    make: Callable[[], Bench], batch_sizes: Iterable[int], repeats: int, precision: str
) -> Sequence[Section]:
    """Reading by the student, batch by batch; the plain way is float32."""
    sections = []
    for size in batch_sizes:
        bench = make()
        student, device = bench.distiller.student.eval(), bench.device
        images = as_float(torch.from_numpy(np.ascontiguousarray(bench.pack.gather(np.resize(bench.rows, size))[1])))
        images = images.to(device)

        def read(how: str, student: Any = student, images: Tensor = images, device: torch.device = device) -> None:
            with torch.inference_mode(), autocast(device, how):
                student(images)

        actions = {how: partial(read, how) for how in dict.fromkeys((FLOAT32, precision))}
        timings = interleaved(actions, repeats, device)
        title = f"Reading by the student of {bench.name} on {device.type}, batch {size}"
        sections.append(Section(title, "images", [Row(name, timing, size) for name, timing in timings.items()]))
    return sections


def step_multiply_accumulates(bench: Bench) -> int:
    """Of a fast step, backward included; torch's counter sees no LSTM, which is added by its formula."""
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        bench.fast(FLOAT32)
    batch, projector = bench.batch(), bench.distiller.projector
    total = counter.get_total_flops() // 2
    if projector is not None:
        num_orders = len(bench.orders(batch)) if bench.distiller.student.uses_permutations else 1
        steps = 2 * num_orders * batch.targets[:, 1:].numel()
        width, hidden = projector.rnn.input_size, projector.rnn.hidden_size
        # Two directions, four gates; the backward pass is twice the forward pass.
        total += 3 * steps * 2 * 4 * hidden * (width + hidden)
    return total


def _dtype(device: torch.device, precision: str) -> torch.dtype:
    if precision == "auto":
        with autocast(device, precision):
            return torch.bfloat16 if torch.is_autocast_enabled(device.type) else torch.float32
    return torch.bfloat16 if precision == BFLOAT16 else torch.float32
