"""One training step, and everything that it changes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils._triton import has_triton

from kdltr_core.capture import RECORDERS, Given, Graphs
from kdltr_core.config import RunConfig
from kdltr_core.data.batch import Batch, encode_targets
from kdltr_core.data.dataset import TrainingPairs
from kdltr_core.device import autocast
from kdltr_core.distributed import DistributedContext, RunningStatistics
from kdltr_core.losses.objective import LossTerms
from kdltr_core.recognizers import Recognizer, RecognizerOutput
from kdltr_core.recognizers.layers import compile_blocks
from kdltr_core.recognizers.permutations import sample_permutations
from kdltr_core.seeding import generator, seed_everything
from kdltr_core.train.build import build_pair
from kdltr_core.train.distiller import Distiller, teach
from kdltr_core.train.meters import Meters
from kdltr_core.train.optim import Gradients, MovingAverage, build_optimiser, set_rates
from kdltr_core.train.teacher_cache import TeacherCache, open_teacher_cache

# What names the cached outputs of the teacher among what a step is given.
_ENCODED = "teacher."


class TrainingStep:
    """Student, projector, optimiser and average, the teacher beside them, and how one batch moves them.

    Nothing in a step waits for the device. On a GPU it is two CUDA graphs: forward and backward of a micro-batch, one
    for each width of the targets, and what the gradients then do to the weights. Between them workers add up their
    gradients.

    Args:
        micro_batches: those of every batch that this worker computes.

    Raises: ValueError for a teacher or start that does not fit.
    """

    def __init__(
        self, config: RunConfig, pairs: TrainingPairs, world: DistributedContext, micro_batches: Sequence[int]
    ) -> None:
        self.config, self.world, self.micro_batches = config, world, micro_batches
        seed_everything(config.seed, "start")
        student, self.teacher = build_pair(config, world.device)
        self.distiller = Distiller(student, config.objective, self.teacher).to(world.device).train()
        self.teacher_cache: TeacherCache | None = None
        if config.data.teacher_cache == "on" and self.teacher:
            place = config.data.cache_folder, world.device, config.optim.precision
            self.teacher_cache = open_teacher_cache(self.teacher, pairs, *place)
        self.statistics = RunningStatistics(self.distiller)
        self.statistics_of_first = RunningStatistics(self.distiller)
        self._freeze_unused_parameters(pairs)
        self.gradients = Gradients(self.distiller)
        self.optimiser = build_optimiser(self.distiller, config.optim)
        self.average = MovingAverage(student, config.optim.ema_decay) if config.optim.ema_decay else None
        self.meters = Meters(world, config.workers)
        graphs = Graphs(world.device)
        self._add_gradients, self._update = graphs.capture(self._add_gradients_of), graphs.capture(self._move_weights)
        self._terms: list[str] = []

    @property
    def reader(self) -> Recognizer:
        """The student as it is read and exported: its average, where there is one."""
        reader: Recognizer = self.average.module if self.average else self.distiller.student  # type: ignore[assignment]
        return reader

    def begin(self) -> None:
        """Make all workers' weights the same, once they are those that training begins with; on a GPU, compile."""
        self.world.share(self.distiller)
        if self.world.device.type in RECORDERS and has_triton():
            compile_blocks(self.distiller.student)
            if self.teacher:
                compile_blocks(self.teacher)

    def run(self, step: int, batches: Sequence[Batch], rate: float, num_valid_steps: Tensor | None) -> None:
        """Train on this worker's micro-batches.

        Args:
            step: from 0.
            batches: of the micro-batches, on the device.
            rate: what the learning rates are multiplied by.
            num_valid_steps: see ``losses.recognition``.
        """
        config, num_micro_batches = self.config, self.config.workers
        num_characters, num_orders = batches[0].targets.shape[1] - 2, config.objective.num_permutations
        orders = sample_permutations(num_characters, num_orders, generator(config.seed, "permutations", step))
        orders = orders.to(self.world.device, non_blocking=True)
        set_rates(self.optimiser, rate)
        self.gradients.joined.zero_()
        self.statistics.remember()
        for number, batch in zip(self.micro_batches, batches, strict=True):
            given = self._given(batch, orders, num_valid_steps)
            # Before anything is drawn: a resumed run draws what an uninterrupted one would have drawn.
            seed_everything(config.seed, "step", step, number)
            # As in the published runs every micro-batch is normalised by itself, and the first one's running
            # statistics are everybody's.
            is_first = number == self.micro_batches[0]
            if not is_first:
                self.statistics_of_first.remember()
            values = self._add_gradients(given)
            if not is_first:
                self.statistics_of_first.restore_where(True)
            self.meters.add_micro_batch(dict(zip(self._terms, values.unbind(), strict=True)))
        self.world.all_reduce(self.gradients.joined)
        self.meters.end_step(self._update({}), num_micro_batches * len(batches[0].labels))

    def _add_gradients_of(self, given: Given) -> Tensor:
        """Forward and backward of a micro-batch: its terms and at last its loss, (number of terms + 1,)."""
        loss = self._loss(given)
        self._terms = [*loss.terms, "loss"]
        self.gradients.add(loss.total * (1 / self.config.workers))
        return torch.stack([*loss.terms.values(), loss.total]).detach()

    def _move_weights(self, given: Given) -> Tensor:
        """What the gradients of a step do to the weights; the gradients' norm before it is clipped."""
        norm = nn.utils.clip_grad_norm_(self.distiller.parameters(), self.config.optim.clip_norm)
        # The fused optimiser leaves weights and state alone where this is 1; nobody waits for the device to know.
        non_finite = ~torch.isfinite(norm)
        self.optimiser.found_inf = non_finite.float()  # type: ignore[attr-defined]
        self.statistics.restore_where(non_finite)
        self.optimiser.step()
        if self.average:
            self.average.update()
        return norm

    def state(self) -> dict[str, Any]:
        """What a checkpoint keeps of it."""
        return {
            "distiller": self.distiller.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "average": self.average.module.state_dict() if self.average else None,
            "num_skipped": self.meters.num_skipped,
        }

    def load(self, state: Mapping[str, Any]) -> None:
        self.distiller.load_state_dict(state["distiller"])
        # The groups as they are here: a checkpoint may come from another kind of device.
        groups = self.optimiser.state_dict()["param_groups"]
        self.optimiser.load_state_dict({**state["optimiser"], "param_groups": groups})
        if self.average:
            self.average.module.load_state_dict(state["average"])
        self.meters.num_skipped = state["num_skipped"]

    def _given(self, batch: Batch, orders: Tensor, num_valid_steps: Tensor | None) -> dict[str, Tensor]:
        """All that a micro-batch brings, and nothing that is not looked at."""
        given = {**batch.tensors(), "orders": orders}
        high_res, low_res = given.pop("high_res"), given.pop("low_res")
        given["images"] = high_res if self.config.recognizer.trained == "teacher" else low_res
        if num_valid_steps is not None:
            given["num_valid_steps"] = num_valid_steps
        if self.teacher_cache:
            encoded = self.teacher_cache.gather(batch.indices, self.world.device)
            return given | {_ENCODED + name: values for name, values in encoded.items()}
        return given | ({"high_res": high_res} if self.teacher else {})

    def _loss(self, given: Given) -> LossTerms:
        with autocast(self.world.device, self.config.optim.precision):
            taught = self._teacher_output(given) if self.teacher else None
            words = (given["targets"], given["lengths"], given["orders"], taught)
            of_words = (given.get("rows"), given.get("weights"))
            terms: LossTerms = self.distiller(given["images"], *words, given.get("num_valid_steps"), *of_words)
        return terms

    @torch.no_grad()
    def _teacher_output(self, given: Given) -> RecognizerOutput:
        assert self.teacher is not None
        if self.teacher_cache is None:
            return teach(self.teacher, given["high_res"], given["targets"], given["orders"])
        encoded = {name.removeprefix(_ENCODED): values for name, values in given.items() if name.startswith(_ENCODED)}
        return self.teacher.decode(encoded, given["targets"], given["orders"])

    def _freeze_unused_parameters(self, pairs: TrainingPairs) -> None:
        """Weights that have no part in the loss ask for no gradient; a forward pass of two words shows which."""
        student = self.distiller.student
        rows = np.arange(min(2, len(pairs)))
        labels = tuple(pairs.labels[row] for row in rows)
        targets, lengths = encode_targets(labels, student.charset, student.fixed_num_steps)
        batch = Batch(*pairs.gather(rows), labels, targets, lengths, rows).to(self.world.device)
        orders = sample_permutations(targets.shape[1] - 2, 1, generator(0)).to(self.world.device)
        self.statistics.remember()
        loss = self._loss(self._given(batch, orders, None))
        self.statistics.restore_where(True)
        for name in unused_parameters(self.distiller, loss.total):
            self.distiller.get_parameter(name).requires_grad_(False)


def unused_parameters(module: nn.Module, loss: Tensor) -> list[str]:
    """Names of the trainable parameters of a module that a loss cannot reach, from a walk over its graph.

    ABINet's language classifier, for instance, has no part in the distilled logits. Data-parallel training waits for
    the gradient of every parameter that asks for one, so these must not ask.

    Args:
        loss: scalar, computed with the module.
    """
    reached: set[int] = set()
    seen = set()
    waiting = [loss.grad_fn]
    while waiting:
        node = waiting.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if hasattr(node, "variable"):
            reached.add(id(node.variable))
        waiting += [before for before, _ in node.next_functions]
    return [name for name, p in module.named_parameters() if p.requires_grad and id(p) not in reached]
