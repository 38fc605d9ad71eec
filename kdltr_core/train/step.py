"""One training step, and everything that it changes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from kdltr_core.batch_norm import RunningStatistics, synchronise_batch_norm
from kdltr_core.config import RunConfig
from kdltr_core.data.batch import Batch, encode_targets
from kdltr_core.data.dataset import TrainingPairs
from kdltr_core.device import autocast
from kdltr_core.distributed import DistributedContext
from kdltr_core.losses.objective import LossTerms
from kdltr_core.recognizers import RecognizerOutput
from kdltr_core.recognizers.permutations import sample_permutations
from kdltr_core.seeding import generator, seed_everything
from kdltr_core.train.build import build_pair
from kdltr_core.train.compile import compile_module, compile_whole
from kdltr_core.train.distiller import Distiller, teach
from kdltr_core.train.idle import unused_parameters
from kdltr_core.train.meters import Meters
from kdltr_core.train.optim import MovingAverage, build_optimiser, set_rates
from kdltr_core.train.teacher_cache import TeacherCache, open_teacher_cache


class TrainingStep:
    """Student, projector, optimiser and average, the teacher beside them, and how one batch moves them.

    Nothing in a step waits for the device.

    Args:
        shares: those of every batch that this worker computes.
    """

    def __init__(
        self, config: RunConfig, pairs: TrainingPairs, world: DistributedContext, shares: Sequence[int]
    ) -> None:
        self.config, self.world, self.shares = config, world, shares
        seed_everything(config.seed, "start")
        student, self.teacher = build_pair(config, pairs, world.device)
        self.distiller = Distiller(student, config.objective, self.teacher).to(world.device).train()
        if config.optim.batch_norm == "synchronised" and world.size > 1:
            synchronise_batch_norm(self.distiller, world.device)
        self.lessons = self._open_lessons(pairs) if config.data.teacher_cache == "on" and self.teacher else None
        self.statistics = RunningStatistics(self.distiller)
        self.statistics_of_first_share = RunningStatistics(self.distiller)
        self.model: nn.Module = self.distiller
        self.teach = teach
        self._leave_out_idle_weights(pairs)
        self.optimiser = build_optimiser(self.distiller, config.optim)
        self.average = MovingAverage(student, config.optim.ema_decay) if config.optim.ema_decay else None
        self.meters = Meters(world, config.workers)

    def begin(self) -> None:
        """Compile and wrap the model, once its weights are those that training begins with."""
        if self.config.optim.compile == "on":
            compile_module(self.distiller)
            self.teach = compile_whole(teach)
        in_bfloat16 = self.config.optim.gradient_exchange == "bfloat16"
        self.model = self.world.wrap(self.distiller, in_bfloat16=in_bfloat16)

    def run(self, step: int, batches: Sequence[Batch], rate: float, num_valid_steps: Tensor | None) -> None:
        """Train on this worker's shares of a batch.

        Args:
            step: from 0.
            batches: of the shares, on the device.
            rate: what the learning rates are multiplied by.
            num_valid_steps: see ``losses.recognition``.
        """
        config, num_shares = self.config, self.config.workers
        num_characters, num_orders = batches[0].targets.shape[1] - 2, config.objective.num_permutations
        orders = sample_permutations(num_characters, num_orders, generator(config.seed, "permutations", step))
        orders = orders.to(self.world.device, non_blocking=True)
        set_rates(self.optimiser, rate)
        self.optimiser.zero_grad(set_to_none=True)
        self.statistics.remember()
        for share, batch in zip(self.shares, batches, strict=True):
            # Before anything is drawn: a resumed run draws what an uninterrupted one would have drawn.
            seed_everything(config.seed, "step", step, share)
            if share != self.shares[0]:
                self.statistics_of_first_share.remember()
            with self.world.no_sync(self.model, share != self.shares[-1]):
                loss = self._loss(batch, orders, num_valid_steps)
                # Averaged over workers, of which there may be fewer than shares.
                (loss.total * (self.world.size / num_shares)).backward()
            if share != self.shares[0]:
                self.statistics_of_first_share.restore_where(True)
            self.meters.add_share({**loss.terms, "loss": loss.total})
        norm = nn.utils.clip_grad_norm_(self.distiller.parameters(), config.optim.clip_norm)
        # The fused optimiser leaves weights and state alone where this is 1; nobody waits for the device to know.
        spoilt = ~torch.isfinite(norm)
        self.optimiser.found_inf = spoilt.float()  # type: ignore[attr-defined]
        self.statistics.restore_where(spoilt)
        self.optimiser.step()
        if self.average:
            self.average.update(self.distiller.student)
        self.meters.end_step(norm, num_shares * len(batches[0].labels))

    def state(self) -> dict[str, Any]:
        """What a checkpoint keeps of it."""
        return {
            "distiller": self.distiller.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "average": self.average.state if self.average else None,
            "num_skipped": self.meters.num_skipped,
        }

    def load(self, state: Mapping[str, Any]) -> None:
        self.distiller.load_state_dict(state["distiller"])
        self.optimiser.load_state_dict(state["optimiser"])
        if self.average and state["average"]:
            self.average.load(state["average"])
        self.meters.num_skipped = state["num_skipped"]

    def _loss(self, batch: Batch, orders: Tensor, num_valid_steps: Tensor | None) -> LossTerms:
        with autocast(self.world.device, self.config.optim.precision):
            lesson = self._lesson(batch, orders) if self.teacher else None
            images = batch.high_res if self.config.recognizer.trained == "teacher" else batch.low_res
            terms: LossTerms = self.model(
                images, batch.targets, batch.lengths, orders, lesson, num_valid_steps, batch.rows
            )
        return terms

    @torch.no_grad()
    def _lesson(self, batch: Batch, orders: Tensor) -> RecognizerOutput:
        assert self.teacher is not None
        if self.lessons is None:
            return self.teach(self.teacher, batch.high_res, batch.targets, orders)
        kept = self.lessons.gather(batch.indices, self.world.device)
        return self.teacher.decode_lesson(kept, batch.targets, orders)

    def _open_lessons(self, pairs: TrainingPairs) -> TeacherCache:
        assert self.teacher is not None
        return open_teacher_cache(
            self.teacher,
            pairs,
            cache_folder=self.config.data.cache_folder,
            device=self.world.device,
            precision=self.config.optim.precision,
            batch_size=self.config.evaluation_batch_size,
        )

    def _leave_out_idle_weights(self, pairs: TrainingPairs) -> None:
        """Weights that have no part in the loss ask for no gradient; a forward pass of two words shows which."""
        student = self.distiller.student
        rows = np.arange(min(2, len(pairs)))
        labels = tuple(pairs.labels[row] for row in rows)
        targets, lengths = encode_targets(labels, student.charset, student.fixed_num_steps)
        batch = Batch(*pairs.gather(rows), labels, targets, lengths, rows).to(self.world.device)
        orders = sample_permutations(targets.shape[1] - 2, 1, generator(0)).to(self.world.device)
        self.statistics.remember()
        loss = self._loss(batch, orders, None)
        self.statistics.restore_where(True)
        for name in unused_parameters(self.distiller, loss.total):
            self.distiller.get_parameter(name).requires_grad_(False)
