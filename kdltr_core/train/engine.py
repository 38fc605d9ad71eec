"""Fit and read: plain loops that do not know how many workers there are, or who is watching."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

import torch

from kdltr_core.capture import RECORDERS
from kdltr_core.config import RunConfig
from kdltr_core.data.batch import Batch
from kdltr_core.data.dataset import Datasets
from kdltr_core.data.device_cache import DeviceCache, has_room
from kdltr_core.data.held_out_texts import selection_texts
from kdltr_core.data.loader import on_device, training_batches
from kdltr_core.data.sampler import EpochSampler
from kdltr_core.distributed import DistributedContext
from kdltr_core.files import NotWritten
from kdltr_core.inference.batched import read_with_recognizer
from kdltr_core.inference.weights_files import export_recognizer
from kdltr_core.metrics import word_accuracy
from kdltr_core.train.checkpoint import CheckpointStore
from kdltr_core.train.optim import rate_factor
from kdltr_core.train.step import TrainingStep

Record = Callable[[int, Mapping[str, float]], None]

# Steps in a row that were not finite, after which the run stops.
MAX_NON_FINITE = 10


class TrainingDiverged(RuntimeError):
    """The loss was not finite too often in a row."""


@dataclass(frozen=True)
class FitResult:
    """How a run ended. Steps count from 1; best_step 0 is the student before training.

    best_validation_accuracy, in per cent, is what the best step was chosen by: see ``RunConfig.selection_words``.
    """

    step: int
    best_step: int
    best_validation_accuracy: float
    num_skipped: int


def total_steps(config: RunConfig, num_pairs: int) -> int:
    """The number of training steps of a run."""
    if config.num_steps is not None:
        return config.num_steps
    return math.ceil(config.num_epochs * num_pairs / config.optim.batch_size)


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
    note: Callable[[str], None] | None = None,
) -> FitResult:
    """Train a student, or a teacher, resuming from the newest checkpoint in the run's folder if there is one.

    Every batch is cut into ``config.workers`` micro-batches, whose randomness is their own. Where there are fewer
    workers, each computes several micro-batches and adds up their gradients: the same run, only slower.

    Args:
        config: the run.
        words: training, validation and benchmark pairs.
        run_folder: checkpoints/ and student/ or teacher/ (the best so far) are written here.
        record: called on the first worker with a step and named values.
        world: this worker.
        run_id: of the tracking run, kept in the checkpoints.
        on_start: called on every worker with the step that training begins at or resumes from.
        on_checkpoint: called on every worker after each validation, with the step and its values.
        on_written: called on the first worker with the folder of every checkpoint and student it wrote.
        save_now: asked on every worker whenever the loss is recorded: whether this machine is about to go and a
            checkpoint should be written at once.
        note: called on every worker with a sentence on where its pixels are, if it computes on a GPU.

    Raises: TrainingDiverged; NotWritten if the student or the last checkpoint finds no room; ValueError for a
        teacher or start that does not fit.
    """
    world = world or DistributedContext()
    written = on_written or (lambda folder: None)
    run = _Run(config, words, run_folder, record, world, run_id, on_checkpoint, written, save_now)
    if note and world.device.type == "cuda":
        assert run.device_cache is not None
        kept = run.device_cache.keeps
        where = "on the GPU" if kept else "on the host, as they do not fit half of what is free on the GPU"
        note(f"the pixels of {len(words.train)} training pairs are kept {where}")
    if on_start:
        on_start(run.step)
    return run.train_loop()


@dataclass
class _Run:
    """The state of a run between two steps, and what moves it."""

    config: RunConfig
    words: Datasets
    run_folder: Path
    record: Record
    world: DistributedContext
    run_id: str
    on_checkpoint: Callable[[int, Mapping[str, float]], None] | None
    on_written: Callable[[Path], None]
    save_now: Callable[[], bool] | None

    def __post_init__(self) -> None:
        config, words, world = self.config, self.words, self.world
        self.micro_batches = range(world.rank, config.workers, world.size)
        if not self.micro_batches:
            raise ValueError(f"there are {world.size} workers and --workers {config.workers} micro-batches of a batch")
        self.store = CheckpointStore(self.run_folder / "checkpoints", config.keep_last)
        self.training = TrainingStep(config, words.train, world, self.micro_batches)
        on_gpu, fits = world.device.type == "cuda", has_room(len(words.train), world.device)
        self.device_cache = DeviceCache(words.train, world.device, keeps=fits) if on_gpu or fits else None
        self.sampler = EpochSampler(len(words.train), config.optim.batch_size, config.seed)
        self.num_steps = total_steps(config, len(words.train))
        self.texts = selection_texts(config)
        self.step = 0
        self.best_step, self.best_accuracy = 0, -1.0
        self.latest: dict[str, float] = {}
        self.meters = self.training.meters
        self._resume()
        self.training.begin()

    def train_loop(self) -> FitResult:
        config = self.config
        if self.step == 0:
            self._validate()
        self.meters.restart_clock()
        for micro_batches in zip(*(self._batches(number) for number in self.micro_batches), strict=True):
            batches = [batch for _, batch in micro_batches]
            rate = rate_factor(config.optim, self.step, self.num_steps, self.sampler.steps_per_epoch)
            self.training.run(self.step, batches, rate, self._valid_steps_a_micro_batch(batches))
            self.step += 1
            last = self.step == self.num_steps
            logs = self.step % config.log_every == 0 or last
            if logs:
                self._log()
            if self.step % config.validate_every == 0 or last:
                self._validate()
            elif self.step % config.checkpoint_every == 0 or (logs and self._must_save()):
                self._save()
        return FitResult(self.step, self.best_step, self.best_accuracy, self.meters.num_skipped)

    def _batches(self, number: int) -> Iterator[tuple[int, Batch]]:
        config, student, cache = self.config, self.training.distiller.student, self.device_cache
        batches = training_batches(
            self.words.train,
            self.sampler,
            student.charset,
            seed=config.seed,
            rank=number,
            world_size=config.workers,
            start_step=self.step,
            num_steps=self.num_steps,
            num_output_steps=student.fixed_num_steps,
            with_fixed_shapes=self.world.device.type in RECORDERS,
            pixels="degraded" if cache is None else "none" if cache.keeps else "packed",
        )
        return on_device(batches, self.world.device, cache)

    def _valid_steps_a_micro_batch(self, batches: list[Batch]) -> torch.Tensor | None:
        """What ``losses.recognition`` divides by: the mean over the micro-batches of all workers; None for one."""
        if self.config.workers == 1:
            return None
        mine = torch.stack([batch.lengths.sum() for batch in batches]).sum().float()
        return self.world.all_reduce(mine) / self.config.workers

    def _must_save(self) -> bool:
        """Whether any worker's machine is about to go."""
        return self.save_now is not None and self.world.any(self.save_now())

    def _log(self) -> None:
        values, bad_in_row = self.meters.take()
        values["learning_rate"] = float(self.training.optimiser.param_groups[0]["lr"])
        values["epoch"] = self.step / self.sampler.steps_per_epoch
        self._record({f"train/{name}": value for name, value in values.items()})
        if bad_in_row >= MAX_NON_FINITE:
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

    def _validate(self) -> None:
        """Read the validation split, keep the student if it is the best so far, and save.

        A student is as good as it is on the held-out words and on rendered texts of every kind, in the mean.
        """
        accuracy = self._word_accuracy(self.words.validation)
        values = {"validation/word_accuracy": accuracy}
        if self.texts is not None:
            values["validation/rendered_texts"] = self._word_accuracy(self.texts)
            accuracy = fmean(values.values())
        self._record(values)
        if accuracy > self.best_accuracy:
            self.best_step, self.best_accuracy = self.step, accuracy
            if self.world.is_main:
                reader, folder = self.training.reader, self.run_folder / self.config.recognizer.trained
                notes = {"step": str(self.step)} | {k.replace("/", "_"): f"{v:.3f}" for k, v in values.items()}
                export_recognizer(folder, reader, reader.state_dict(), self.config, **notes)
                self.on_written(folder)
        self._save()
        if self.on_checkpoint:
            self.on_checkpoint(self.step, values)
        self.meters.restart_clock()

    def _word_accuracy(self, pairs: Any) -> float:
        """Of the student as it stands, in per cent."""
        config = self.config
        # Blocks that are compiled for the batches of training would be compiled again for these.
        as_written = torch.compiler.set_stance("force_eager") if self.world.device.type == "cuda" else nullcontext()
        with as_written:
            predictions = read_with_recognizer(
                self.training.reader,
                pairs,
                config.recognizer.resolution,
                world=self.world,
                precision=config.optim.precision,
            )
        return 100 * word_accuracy([prediction.text for prediction in predictions], pairs.labels)

    def _save(self) -> None:
        if self.world.is_main:
            state = {
                "step": self.step,
                **self.training.state(),
                "best": {"step": self.best_step, "accuracy": self.best_accuracy},
                "metrics": self.latest,
                "run_id": self.run_id,
            }
            try:
                self.on_written(self.store.save(self.step, state, self.best_step))
            except NotWritten as error:
                if self.step == self.num_steps:
                    raise
                warnings.warn(f"{error}; training continues and the next checkpoint is tried", stacklevel=2)
        self.world.barrier()

    def _resume(self) -> None:
        state = self.store.newest()
        if state is None:
            return
        self.training.load(state)
        self.step = state["step"]
        self.best_step, self.best_accuracy = state["best"]["step"], state["best"]["accuracy"]
        self.latest = state["metrics"]
