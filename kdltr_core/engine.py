"""Fit and read: plain loops that do not know how many workers there are, or who is watching."""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from kdltr_core.batch_norm import RunningStatistics, synchronise_batch_norm
from kdltr_core.build import build_pair
from kdltr_core.checkpoint import CheckpointStore, NotWritten
from kdltr_core.config import RunConfig
from kdltr_core.data.batch import Batch, encode_targets
from kdltr_core.data.loader import evaluation_batches, training_batches
from kdltr_core.data.sampler import EpochSampler
from kdltr_core.data.words import WordData
from kdltr_core.distiller import Distiller, as_float, autocast, enlarge, teach
from kdltr_core.idle import idle_parameters
from kdltr_core.losses.objective import LossTerms
from kdltr_core.metrics import word_accuracy
from kdltr_core.optim import MovingAverage, build_optimiser, rate_factor, set_rates
from kdltr_core.recognizers import Recognizer
from kdltr_core.recognizers.permutations import sample_permutations
from kdltr_core.recognizers.reading import decode_readings
from kdltr_core.seeding import generator, seed_everything
from kdltr_core.student import export_student
from kdltr_core.world import World

Record = Callable[[int, Mapping[str, float]], None]


class TrainingDiverged(RuntimeError):
    """The loss was not finite too often in a row."""


@dataclass(frozen=True)
class FitResult:
    """How a run ended. Steps count from 1; best_step 0 is the student before training."""

    step: int
    best_step: int
    best_validation_accuracy: float
    num_skipped: int


def total_steps(config: RunConfig, num_pairs: int) -> int:
    """The number of training steps of a run."""
    if config.num_steps is not None:
        return config.num_steps
    return math.ceil(config.num_epochs * num_pairs / config.optim.batch_size)


@torch.inference_mode()
def read_words(
    module: Recognizer,
    pack: Any,
    column: str,
    *,
    batch_size: int,
    world: World | None = None,
    precision: str = "auto",
    progress: Callable[[int, int], None] | None = None,
) -> list[str]:
    """Readings of every image of a pack, in its order, on every worker; each image is read by exactly one.

    Args:
        module: teacher or student; read in evaluation mode.
        pack: a ``Pack`` or ``TrainingPairs``.
        column: what is read: "high_res", "low_res", or "enlarged" (low_res, bicubic, for a teacher).
        batch_size: of each worker.
        progress: called with (images read by this worker, images it has to read).

    Raises: ValueError for an unknown column.
    """
    if column not in ("high_res", "low_res", "enlarged"):
        raise ValueError(f"unknown column {column!r}; expected 'high_res', 'low_res' or 'enlarged'")
    world = world or World()
    was_training = module.training
    module.eval()
    mine: dict[int, str] = {}
    share = len(range(world.rank, len(pack), world.size))
    for indices, high_res, low_res in evaluation_batches(pack, batch_size, world.rank, world.size):
        images = as_float((high_res if column == "high_res" else low_res).to(world.device))
        with autocast(world.device, precision):
            logits = module(enlarge(images) if column == "enlarged" else images).logits
        mine.update(zip(indices.tolist(), decode_readings(logits, module.charset), strict=True))
        if progress:
            progress(len(mine), share)
    module.train(was_training)
    readings = {index: text for part in world.gather(mine) for index, text in part.items()}
    return [readings[index] for index in range(len(pack))]


def fit(
    config: RunConfig,
    words: WordData,
    *,
    run_folder: Path,
    record: Record,
    world: World | None = None,
    run_id: str = "",
    on_checkpoint: Callable[[int, Mapping[str, float]], None] | None = None,
) -> FitResult:
    """Train a student, going on from the newest checkpoint in the run's folder if there is one.

    Args:
        config: the run.
        words: training, validation and benchmark pairs.
        run_folder: checkpoints/ and student/ (the best so far) are written here.
        record: called on the first worker with a step and named values.
        world: this worker.
        run_id: of the tracking run, kept in the checkpoints.
        on_checkpoint: called on every worker after each validation, with the step and its values.

    Raises: TrainingDiverged; NotWritten if the student or the last checkpoint finds no room; ValueError for a
        teacher or start that does not fit.
    """
    world = world or World()
    return _Run(config, words, run_folder, record, world, run_id, on_checkpoint).to_the_end()


class _Run:
    """The state of a run between two steps, and what moves it."""

    def __init__(
        self,
        config: RunConfig,
        words: WordData,
        run_folder: Path,
        record: Record,
        world: World,
        run_id: str,
        on_checkpoint: Callable[[int, Mapping[str, float]], None] | None,
    ) -> None:
        self.config, self.words, self.run_folder, self.world, self.run_id = config, words, run_folder, world, run_id
        self.record, self.on_checkpoint = record, on_checkpoint
        self.store = CheckpointStore(run_folder / "checkpoints", config.keep_last)
        seed_everything(config.seed, "start")
        student, self.teacher = build_pair(config, words.train, world.device)
        self.distiller = Distiller(student, config.objective, self.teacher).to(world.device).train()
        if config.optim.batch_norm == "synchronised" and world.size > 1:
            synchronise_batch_norm(self.distiller, world.device)
        self.statistics = RunningStatistics(self.distiller)
        self._leave_out_idle_weights()
        self.optimiser = build_optimiser(self.distiller, config.optim)
        self.average = MovingAverage(student, config.optim.ema_decay) if config.optim.ema_decay else None
        self.sampler = EpochSampler(len(words.train), config.optim.batch_size, config.seed)
        self.num_steps = total_steps(config, len(words.train))
        self.step = 0
        self.best_step, self.best_accuracy = 0, -1.0
        self.latest: dict[str, float] = {}
        self.meters = _Meters(world)
        self._resume()
        self.model = world.wrap(self.distiller)

    def to_the_end(self) -> FitResult:
        config = self.config
        if self.step == 0:
            self._validate()
        batches = training_batches(
            self.words.train,
            self.sampler,
            self.distiller.student.charset,
            seed=config.seed,
            rank=self.world.rank,
            world_size=self.world.size,
            start_step=self.step,
            num_steps=self.num_steps,
            num_output_steps=self.distiller.student.fixed_num_steps,
            num_threads=config.data.num_loader_threads,
        )
        self.meters.restart_clock()
        for step, batch in batches:
            self._train_step(step, batch)
            self.step = step + 1
            last = self.step == self.num_steps
            if self.step % config.log_every == 0 or last:
                self._log()
            if self.step % config.validate_every == 0 or last:
                self._validate()
            elif self.step % config.checkpoint_every == 0:
                self._save()
            if config.benchmark_every and self.step % config.benchmark_every == 0:
                self._benchmark()
        return FitResult(self.step, self.best_step, self.best_accuracy, self.meters.num_skipped)

    def _train_step(self, step: int, batch: Batch) -> None:
        config, device = self.config, self.world.device
        # Before anything is drawn: a resumed run draws what an uninterrupted one would have drawn.
        seed_everything(config.seed, "step", step, self.world.rank)
        permutations = sample_permutations(
            batch.targets.shape[1] - 2, config.objective.num_permutations, generator(config.seed, "permutations", step)
        ).to(device, non_blocking=True)
        batch = batch.to(device)
        num_valid = None
        if self.world.size > 1:
            num_valid = self.world.all_reduce(batch.lengths.sum().float()) / self.world.size
        set_rates(self.optimiser, rate_factor(config.optim, step, self.num_steps, self.sampler.steps_per_epoch))
        self.statistics.remember()
        loss = self._loss(self.model, batch, permutations, num_valid)
        self.optimiser.zero_grad(set_to_none=True)
        loss.total.backward()
        norm = nn.utils.clip_grad_norm_(self.distiller.parameters(), config.optim.clip_norm)
        # The fused optimiser leaves weights and state alone where this is 1; nobody waits for the device to know.
        spoilt = ~torch.isfinite(norm)
        self.optimiser.found_inf = spoilt.float()  # type: ignore[attr-defined]
        self.statistics.restore_where(spoilt)
        self.optimiser.step()
        if self.average:
            self.average.update(self.distiller.student)
        self.meters.add({**loss.terms, "loss": loss.total}, norm, len(batch.labels))

    def _loss(self, model: nn.Module, batch: Batch, permutations: Tensor, num_valid: Tensor | None) -> LossTerms:
        with autocast(self.world.device, self.config.optim.precision):
            lesson = teach(self.teacher, batch.high_res, batch.targets, permutations) if self.teacher else None
            terms: LossTerms = model(batch.low_res, batch.targets, batch.lengths, permutations, lesson, num_valid)
        return terms

    def _leave_out_idle_weights(self) -> None:
        """Weights that have no part in the loss ask for no gradient; a forward pass of two words shows which."""
        train, student = self.words.train, self.distiller.student
        rows = np.arange(min(2, len(train)))
        labels = tuple(train.labels[row] for row in rows)
        targets, lengths = encode_targets(labels, student.charset, student.fixed_num_steps)
        batch = Batch(*train.gather(rows), labels, targets, lengths).to(self.world.device)
        permutations = sample_permutations(targets.shape[1] - 2, 1, generator(0)).to(self.world.device)
        self.statistics.remember()
        loss = self._loss(self.distiller, batch, permutations, None)
        self.statistics.restore_where(True)
        idle = idle_parameters(self.distiller, loss.total)
        for name in idle:
            self.distiller.get_parameter(name).requires_grad_(False)

    def _log(self) -> None:
        values, bad_in_row = self.meters.take()
        values["learning_rate"] = self.optimiser.param_groups[0]["lr"]
        values["epoch"] = self.step / self.sampler.steps_per_epoch
        self._record({f"train/{name}": value for name, value in values.items()})
        if bad_in_row >= self.config.optim.max_nonfinite:
            broken = [name for name in values if name != "learning_rate" and not math.isfinite(values[name])]
            raise TrainingDiverged(
                f"the loss or its gradient was not finite in {bad_in_row} steps in a row up to step {self.step} "
                f"(not finite: {', '.join(broken) or 'the gradient alone'}); "
                "lower optim.learning_rate, or set the weight of that term to 0"
            )

    def _record(self, values: Mapping[str, float]) -> None:
        self.latest.update(values)
        if self.world.is_main:
            self.record(self.step, values)

    def _reader(self) -> Recognizer:
        """The student as it is read and exported: its average, where there is one."""
        if not self.average:
            return self.distiller.student
        reader = build_pair(self.config, None, self.world.device)[0]
        reader.load_state_dict(self.average.state)
        return reader

    def _validate(self) -> None:
        """Read the validation split, keep the student if it is the best so far, and save."""
        reader = self._reader()
        pairs = self.words.validation
        readings = self._read(reader, pairs)
        accuracy = 100 * word_accuracy(readings, pairs.labels)
        values = {"validation/word_accuracy": accuracy}
        self._record(values)
        if accuracy > self.best_accuracy:
            self.best_step, self.best_accuracy = self.step, accuracy
            if self.world.is_main:
                notes = {"step": str(self.step), "validation_word_accuracy": f"{accuracy:.3f}"}
                export_student(self.run_folder / "student", reader, reader.state_dict(), self.config, **notes)
        self._save()
        if self.on_checkpoint:
            self.on_checkpoint(self.step, values)
        self.meters.restart_clock()

    def _benchmark(self) -> None:
        reader = self._reader()
        for name, pack in self.words.benchmarks.items():
            accuracy = 100 * word_accuracy(self._read(reader, pack), pack.labels)
            self._record({f"benchmark/{name}/student_low_res": accuracy})
        self.meters.restart_clock()

    def _read(self, reader: Recognizer, pairs: Any) -> list[str]:
        size = self.config.evaluation_batch_size
        return read_words(
            reader, pairs, "low_res", batch_size=size, world=self.world, precision=self.config.optim.precision
        )

    def _save(self) -> None:
        if self.world.is_main:
            state = {
                "step": self.step,
                "distiller": self.distiller.state_dict(),
                "optimiser": self.optimiser.state_dict(),
                "average": self.average.state if self.average else None,
                "best": {"step": self.best_step, "accuracy": self.best_accuracy},
                "metrics": self.latest,
                "num_skipped": self.meters.num_skipped,
                "config": self.config.model_dump(mode="json"),
                "run_id": self.run_id,
            }
            try:
                self.store.save(self.step, state, self.best_step)
            except NotWritten as error:
                if self.step == self.num_steps:
                    raise
                warnings.warn(f"{error}; training goes on and the next checkpoint is tried", stacklevel=2)
        self.world.barrier()

    def _resume(self) -> None:
        state = self.store.newest()
        if state is None:
            return
        self.distiller.load_state_dict(state["distiller"])
        self.optimiser.load_state_dict(state["optimiser"])
        if self.average and state["average"]:
            self.average.load(state["average"])
        self.step = state["step"]
        self.best_step, self.best_accuracy = state["best"]["step"], state["best"]["accuracy"]
        self.latest = state["metrics"]
        self.meters.num_skipped = state["num_skipped"]


class _Meters:
    """Sums on the device, fetched only when they are recorded."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.num_skipped = 0
        self.bad_in_row = torch.zeros((), device=world.device)
        self.sums: dict[str, Tensor] = {}
        self.steps = 0
        self.images = 0
        self.restart_clock()

    def restart_clock(self) -> None:
        """Leave what was not training out of images per second."""
        self.since = time.perf_counter()
        self.images = 0

    def add(self, terms: Mapping[str, Tensor], norm: Tensor, num_images: int) -> None:
        bad = (~torch.isfinite(norm)).float()
        self.bad_in_row = (self.bad_in_row + bad) * bad
        for name, value in {**terms, "gradient_norm": norm, "skipped": bad}.items():
            self.sums[name] = self.sums.get(name, torch.zeros((), device=norm.device)) + value.detach()
        self.steps += 1
        self.images += num_images

    def take(self) -> tuple[dict[str, float], int]:
        """Means since the last time over steps and workers, and how many non-finite steps in a row there are."""
        names = list(self.sums)
        packed = self.world.all_reduce(torch.stack([self.sums[name].float() for name in names]))
        values = dict(zip(names, (packed / (self.world.size * self.steps)).tolist(), strict=True))
        self.num_skipped += round(values.pop("skipped") * self.steps)
        values["skipped_steps"] = self.num_skipped
        if self.images:
            values["images_per_second"] = self.images * self.world.size / (time.perf_counter() - self.since)
        self.sums, self.steps = {}, 0
        self.restart_clock()
        return values, int(self.bad_in_row)
