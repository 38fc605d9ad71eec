"""Fit and read: plain loops that do not know how many workers there are, or who is watching."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from kdltr_core.agreement import Agreement
from kdltr_core.config import RunConfig
from kdltr_core.data.batch import Batch
from kdltr_core.data.dataset import Datasets
from kdltr_core.data.device_cache import DeviceCache
from kdltr_core.data.loader import on_device, training_batches
from kdltr_core.data.sampler import EpochSampler
from kdltr_core.distributed import DistributedContext
from kdltr_core.files import NotWritten
from kdltr_core.inference.batched import read_with_recognizer
from kdltr_core.inference.weights_files import export_recognizer
from kdltr_core.metrics import word_accuracy
from kdltr_core.recognizers import Recognizer
from kdltr_core.train.build import build_pair
from kdltr_core.train.checkpoint import CheckpointStore
from kdltr_core.train.optim import rate_factor
from kdltr_core.train.step import TrainingStep

Record = Callable[[int, Mapping[str, float]], None]

SECONDS_BETWEEN_QUESTIONS = 5.0


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


def read_words(
    module: Recognizer,
    pack: Any,
    column: str,
    *,
    batch_size: int,
    world: DistributedContext | None = None,
    precision: str = "auto",
    progress: Callable[[int, int], None] | None = None,
) -> list[str]:
    """As ``readers.read_with_recognizer``, the text alone."""
    words = read_with_recognizer(
        module, pack, column, batch_size=batch_size, world=world, precision=precision, progress=progress
    )
    return [word.text for word in words]


def fit(
    config: RunConfig,
    words: Datasets,
    *,
    run_folder: Path,
    record: Record,
    world: DistributedContext | None = None,
    run_id: str = "",
    on_start: Callable[[int], None] | None = None,
    on_checkpoint: Callable[[int, Mapping[str, float]], None] | None = None,
    on_written: Callable[[Path], None] | None = None,
    save_now: Callable[[], bool] | None = None,
) -> FitResult:
    """Train a student, or a teacher, going on from the newest checkpoint in the run's folder if there is one.

    The batch is cut into ``config.workers`` shares, whose randomness is their own. Where there are fewer workers, each
    computes several shares and adds up their gradients: the same run, only slower.

    Args:
        config: the run.
        words: training, validation and benchmark pairs.
        run_folder: checkpoints/ and student/ or teacher/ (the best so far) are written here.
        record: called on the first worker with a step and named values.
        world: this worker.
        run_id: of the tracking run, kept in the checkpoints.
        on_start: called on every worker with the step that training begins at or goes on from.
        on_checkpoint: called on every worker after each validation, with the step and its values.
        on_written: called on the first worker with the folder of every checkpoint and student it wrote.
        save_now: asked on every worker, at the same steps, every few seconds: whether this machine is about to go and
            a checkpoint should be written at once.

    Raises: TrainingDiverged; NotWritten if the student or the last checkpoint finds no room; ValueError for a
        teacher or start that does not fit.
    """
    world = world or DistributedContext()
    hooks = (on_checkpoint, on_written or (lambda folder: None), save_now)
    run = _Run(config, words, run_folder, record, world, run_id, *hooks)
    if on_start:
        on_start(run.step)
    return run.train_loop()


class _Run:
    """The state of a run between two steps, and what moves it."""

    def __init__(
        self,
        config: RunConfig,
        words: Datasets,
        run_folder: Path,
        record: Record,
        world: DistributedContext,
        run_id: str,
        on_checkpoint: Callable[[int, Mapping[str, float]], None] | None,
        on_written: Callable[[Path], None],
        save_now: Callable[[], bool] | None,
    ) -> None:
        self.config, self.words, self.run_folder, self.world, self.run_id = config, words, run_folder, world, run_id
        self.record, self.on_checkpoint = record, on_checkpoint
        self.on_written, self.save_now = on_written, save_now
        self.shares = range(world.rank, config.workers, world.size)
        if not self.shares:
            raise ValueError(f"there are {world.size} workers and --workers {config.workers} shares of the batch")
        self.store = CheckpointStore(run_folder / "checkpoints", config.keep_last)
        self.training = TrainingStep(config, words.train, world, self.shares)
        self.resident = DeviceCache(words.train, world.device) if config.data.placement == "device" else None
        self.sampler = EpochSampler(len(words.train), config.optim.batch_size, config.seed)
        self.num_steps = total_steps(config, len(words.train))
        self.step = 0
        self.best_step, self.best_accuracy = 0, -1.0
        self.latest: dict[str, float] = {}
        self.meters = self.training.meters
        asks = SECONDS_BETWEEN_QUESTIONS if save_now else 0.0
        self.agreement = Agreement(world, {"ask": asks, "save": 60 * config.checkpoint_minutes})
        self._resume()
        self.training.begin()

    def train_loop(self) -> FitResult:
        config = self.config
        if self.step == 0:
            self._validate()
        self.meters.restart_clock()
        for shares in zip(*(self._batches(share) for share in self.shares), strict=True):
            step = self.step
            rings = self._train_step(step, [batch for _, batch in shares])
            self.step = step + 1
            last = self.step == self.num_steps
            if self.step % config.log_every == 0 or last:
                self._log()
            if self.step % config.validate_every == 0 or last:
                self._validate()
            elif self.step % config.checkpoint_every == 0 or "save" in rings or ("ask" in rings and self._must_save()):
                self._save()
            if config.benchmark_every and self.step % config.benchmark_every == 0:
                self._benchmark()
        return FitResult(self.step, self.best_step, self.best_accuracy, self.meters.num_skipped)

    def _batches(self, share: int) -> Iterator[tuple[int, Batch]]:
        config, student = self.config, self.training.distiller.student
        batches = training_batches(
            self.words.train,
            self.sampler,
            student.charset,
            seed=config.seed,
            rank=share,
            world_size=config.workers,
            start_step=self.step,
            num_steps=self.num_steps,
            num_output_steps=student.fixed_num_steps,
            contrast_group=config.objective.contrast_group,
            static_shapes=config.optim.compile == "on",
            with_pixels=self.resident is None,
            num_threads=config.data.num_loader_threads,
        )
        return on_device(batches, self.world.device, self.resident)

    def _train_step(self, step: int, batches: Sequence[Batch]) -> frozenset[str]:
        """Train on this worker's shares of a batch; returns the timers that rang."""
        num_shares = self.config.workers
        total, rings = self.agreement.exchange(torch.stack([batch.lengths.sum() for batch in batches]).sum())
        rate = rate_factor(self.config.optim, step, self.num_steps, self.sampler.steps_per_epoch)
        self.training.run(step, batches, rate, total / num_shares if num_shares > 1 else None)
        return rings

    def _must_save(self) -> bool:
        """Whether any worker's machine is about to go."""
        assert self.save_now is not None
        return any(self.world.gather(self.save_now()))

    def _log(self) -> None:
        values, bad_in_row = self.meters.take()
        values["learning_rate"] = self.training.optimiser.param_groups[0]["lr"]
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
        if not self.training.average:
            return self.training.distiller.student
        reader = build_pair(self.config, None, self.world.device)[0]
        reader.load_state_dict(self.training.average.state)
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
                folder = self.run_folder / self.config.recognizer.trained
                export_recognizer(folder, reader, reader.state_dict(), self.config, **notes)
                self.on_written(folder)
        self._save()
        if self.on_checkpoint:
            self.on_checkpoint(self.step, values)
        self.meters.restart_clock()

    def _benchmark(self) -> None:
        reader = self._reader()
        for name, pack in self.words.benchmarks.items():
            accuracy = 100 * word_accuracy(self._read(reader, pack), pack.labels)
            self._record({f"benchmark/{name}/{self.config.recognizer.trained_column}": accuracy})
        self.meters.restart_clock()

    def _read(self, reader: Recognizer, pairs: Any) -> list[str]:
        size, column = self.config.evaluation_batch_size, self.config.recognizer.resolution
        return read_words(
            reader, pairs, column, batch_size=size, world=self.world, precision=self.config.optim.precision
        )

    def _save(self) -> None:
        if self.world.is_main:
            state = {
                "step": self.step,
                **self.training.state(),
                "best": {"step": self.best_step, "accuracy": self.best_accuracy},
                "metrics": self.latest,
                "config": self.config.model_dump(mode="json"),
                "run_id": self.run_id,
            }
            try:
                self.on_written(self.store.save(self.step, state, self.best_step))
            except NotWritten as error:
                if self.step == self.num_steps:
                    raise
                warnings.warn(f"{error}; training goes on and the next checkpoint is tried", stacklevel=2)
        self.world.barrier()

    def _resume(self) -> None:
        state = self.store.newest()
        if state is None:
            return
        self.training.load(state)
        self.step = state["step"]
        self.best_step, self.best_accuracy = state["best"]["step"], state["best"]["accuracy"]
        self.latest = state["metrics"]
