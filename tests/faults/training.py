"""A real run of ``pipelines/train.py``, watched from outside through what it writes."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import isnan
from pathlib import Path
from typing import Any

import torch
from mlflow import MlflowClient

import pipelines
from kdltr_core.train.checkpoint import read_checkpoint
from pipelines.run.metrics_log import Record, read_records
from tests.tracked import tracked

TRAIN = Path(pipelines.__path__[0]) / "train.py"
CHECKPOINT_EVERY = 4
VALIDATE_EVERY = 12
SECONDS_AT_MOST = 600.0


@dataclass(frozen=True)
class Measured:
    """A row of the table.

    Attributes:
        fault: what happened.
        steps_again: steps that had been trained and had to be trained again.
        seconds: the longest time after it in which no step was trained for the first time.
        weights: how the final weights differ from those of an uncorrupted run.
    """

    fault: str
    steps_again: int
    seconds: float
    weights: str


class Training:
    """One run, maybe of several drivers one after the other.

    Args:
        folder: the runs, the database of MLflow and the data lie here.
        environment: of the driver; RAY_ADDRESS names the cluster.
        options: added to the command.
        script: in place of train.py itself.
    """

    def __init__(
        self,
        folder: Path,
        environment: Mapping[str, str],
        name: str,
        num_steps: int,
        *options: str,
        script: Sequence[str] = (str(TRAIN),),
    ) -> None:
        self.folder = folder / "runs" / name
        self.num_steps = num_steps
        self.uri = f"sqlite:///{folder}/mlflow.db"
        self._cwd, self._environment, self._name = folder, dict(environment), name
        # fmt: off
        # The last of two values counts, so options may repeat what is given here.
        self._command = [
            sys.executable, *script, "demo", "--name", name, "--num-steps", str(num_steps), "--log-every", "1",
            "--optim.batch-size", "4", "--optim.precision", "float32", "--objective.num-permutations", "2",
            "--checkpoint-every", str(CHECKPOINT_EVERY), "--validate-every", str(VALIDATE_EVERY), "--keep-last", "99",
            "--data.num-rendered-train", "64", "--data.num-rendered-benchmark", "16", "--data.cache-folder", "cache",
            "--selection-words", "16", "--harm-words", "4",
            *options,
        ]
        # fmt: on
        self._log = folder / f"{name}.log"
        self.driver: subprocess.Popen[bytes]

    def start(self) -> None:
        """The command, in the background; what it says is added to what its predecessors said."""
        with self._log.open("ab") as log:
            self.driver = subprocess.Popen(
                self._command, cwd=self._cwd, env=self._environment, stdout=log, stderr=log, start_new_session=True
            )

    def once_more(self) -> subprocess.CompletedProcess[str]:
        """The same command while, or after, another one is at work."""
        return subprocess.run(
            self._command, cwd=self._cwd, env=self._environment, capture_output=True, text=True, timeout=SECONDS_AT_MOST
        )

    def kill_driver(self) -> None:
        self.driver.kill()
        self.driver.wait()

    @property
    def said(self) -> str:
        return self._log.read_text()

    @property
    def records(self) -> list[Record]:
        return read_records(self.folder / "metrics.jsonl")[0]

    @property
    def step(self) -> int:
        """The last one that is recorded."""
        return max((record.step for record in self.records if record.metrics), default=0)

    @property
    def checkpoints(self) -> list[int]:
        return sorted(int(place.name.removeprefix("step-")) for place in (self.folder / "checkpoints").glob("step-*"))

    def wait_until(self, condition: Callable[[], object], seconds: float = SECONDS_AT_MOST) -> None:
        """Raises: AssertionError if it does not come true in time, or the driver ends before."""
        until = time.monotonic() + seconds
        while not condition():
            assert self.driver.poll() is None, f"the driver ended with {self.driver.poll()}:\n{self.said[-4000:]}"
            assert time.monotonic() < until, f"it did not happen in {seconds:.0f} s:\n{self.said[-4000:]}"
            time.sleep(0.1)

    def reach(self, step: int) -> None:
        self.wait_until(lambda: self.step >= step)

    def finish(self) -> None:
        """Raises: AssertionError unless the driver comes to its end, with exit code 0."""
        self.wait_until(lambda: (self.folder / "finished.json").exists())
        assert self.driver.wait(SECONDS_AT_MOST) == 0, self.said[-4000:]

    def starts(self) -> list[tuple[int, int]]:
        """Of every group of workers that went on: the step it went on from, and the last that had been trained."""
        found, reached = [], 0
        for record in self.records:
            if record.note.startswith("resuming from step "):
                found.append((int(record.note.removeprefix("resuming from step ").split()[0].rstrip(":")), reached))
            reached = max(reached, record.step if record.metrics else 0)
        return found

    def widths(self) -> list[str]:
        """How many workers there are in every group that went on, such as "2" or "1 of 2"."""
        notes = [record.note for record in self.records if record.note.startswith("resuming from step ")]
        return [note.partition(" workers")[0].rpartition(" on ")[2] for note in notes]

    def pause_after(self, fault: int, until: int | None = None) -> float:
        """The longest time, in seconds, in which no step was trained for the first time.

        Args:
            fault, until: milliseconds, from when to when; to the end by default.
        """
        times = [record.time for record in self.losses() if until is None or record.time <= until]
        first = max(place for place, time in enumerate(times) if time <= fault)
        return max(later - earlier for earlier, later in zip(times[first:], times[first + 1 :], strict=False)) / 1000

    def losses(self) -> list[Record]:
        return [record for record in self.records if "train/loss" in record.metrics]

    def weights(self) -> dict[str, torch.Tensor]:
        return read_checkpoint(self.folder / "checkpoints" / f"step-{self.num_steps:08d}")["distiller"]

    def optimiser(self) -> dict[str, Any]:
        return read_checkpoint(self.folder / "checkpoints" / f"step-{self.num_steps:08d}")["optimiser"]

    def check_record(self, uri: str = "", validate_every: int = VALIDATE_EVERY) -> None:
        """Raises: AssertionError unless every step is recorded once, and MLflow has one finished run with all of it."""
        metrics_log: dict[str, list[tuple[int, float]]] = {}
        for record in self.records:
            for name, value in record.metrics.items():
                metrics_log.setdefault(name, []).append((record.step, value))
        for name, points in metrics_log.items():
            steps = [step for step, _ in points]
            assert steps == sorted(set(steps)), name
        assert [step for step, _ in metrics_log["train/loss"]] == list(range(1, self.num_steps + 1))
        validated = sorted({0, *range(validate_every, self.num_steps, validate_every), self.num_steps})
        assert [step for step, _ in metrics_log["validation/word_accuracy"]] == validated

        client, there = MlflowClient(uri or self.uri), tracked(uri or self.uri)[self._name]
        assert there.info.status == "FINISHED"
        for name, points in metrics_log.items():
            history = client.get_metric_history(there.info.run_id, name)
            sent = sorted((point.step, point.value) for point in history if not isnan(point.value))
            # A final figure is shown as a bar, which MLflow draws of step 0.
            is_final = "/" not in name or name.startswith(("harm/", "calibration/"))
            assert sent == ([(0, value) for _, value in points] if is_final else points), name
