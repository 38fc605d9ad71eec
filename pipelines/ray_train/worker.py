"""What each Ray worker runs: the seam between Ray Train and the core, which knows nothing of Ray."""

from __future__ import annotations

import hashlib
import os
import shutil
import socket
import time
import warnings
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import ray.train
import ray.train.torch
import torch

from kdltr_core.config import RunConfig
from kdltr_core.data.dataset import Datasets, load_datasets
from kdltr_core.data.held_out_texts import selection_texts
from kdltr_core.data.opened_packs import DatasetsDescription
from kdltr_core.distributed import DistributedContext
from kdltr_core.evaluation.calibration import fit_on_pairs
from kdltr_core.files import NotWritten, write_text
from kdltr_core.inference.weights_files import FILES, add_notes, load_recognizer
from kdltr_core.recognizers.registry import charset_of
from kdltr_core.recognizers.weights import read_metadata
from kdltr_core.remote import is_uri
from kdltr_core.train.engine import FitResult, TrainingDiverged, fit
from pipelines.run.checks import VALIDATED_ON_READINGS
from pipelines.run.folder import REFUSAL_FILE
from pipelines.run.metrics_log import MetricsLog, training_speed
from pipelines.run.storage import METRICS_FILE, Storage

SECONDS_BETWEEN_PUSHES = 10.0
SECONDS_BETWEEN_BARS = 1.0


def train_worker(settings: dict[str, Any]) -> bool:
    """Train, then read the benchmarks; the same on every worker.

    Args:
        settings: "config" (the run's fields), "run_folder" (a path, the same on all nodes, or a URI), "run_id" and
            "datasets" (the driver's description of them).

    Returns: whether this is the end of the run, rather than of a group that came after a refusal.
    """
    config = RunConfig.model_validate(settings["config"])
    place = settings["run_folder"]
    key = hashlib.blake2b(place.encode(), digest_size=8).hexdigest()
    storage = Storage(place, Path(config.data.cache_folder).expanduser() / "runs" / key)
    # What is wrong with the input stays wrong when Ray rebuilds the group: the second group leaves at once.
    storage.pull(REFUSAL_FILE)
    if (storage.path / REFUSAL_FILE).exists():
        return False
    try:
        _train(config, storage, settings["run_id"], settings["datasets"])
    except (ValueError, TrainingDiverged, NotWritten) as error:
        where = f" (said on {socket.gethostname()})" if config.workers > 1 else ""
        write_text(storage.path / REFUSAL_FILE, f"{error}{where}")
        storage.push(REFUSAL_FILE)
        raise
    return True


def _train(config: RunConfig, storage: Storage, run_id: str, datasets: DatasetsDescription) -> None:
    # Ray gives every worker one OpenMP thread; the cores of this machine are there to be shared out.
    here = ray.train.get_context().get_local_world_size()
    torch.set_num_threads(max(1, len(os.sched_getaffinity(0)) // here))
    if torch.cuda.is_available():
        torch.cuda.set_device(ray.train.torch.get_device())
    world = DistributedContext.current()
    trained, metrics_log = config.recognizer.trained, None
    storage.path.mkdir(parents=True, exist_ok=True)
    if world.is_main:
        # What an earlier group left here and could not send is trained again.
        storage.pull(METRICS_FILE, trained)
        metrics_log = MetricsLog(storage.path / METRICS_FILE)
        _hand_on_warnings(metrics_log)
    steps = world.gather(storage.pull_newest_checkpoint())
    if len(set(steps)) > 1:  # one came meanwhile; a new group finds the same
        raise RuntimeError(f"the newest whole checkpoint in {storage.place} is not one for all: {steps}")
    note = metrics_log.note if metrics_log else lambda sentence: None
    send_metrics = _now_and_then(
        lambda: storage.try_to_push(METRICS_FILE, "the metrics log is sent again soon"), SECONDS_BETWEEN_PUSHES
    )

    def record(step: int, metrics: Mapping[str, float]) -> None:
        assert metrics_log is not None
        metrics_log.record(step, {**metrics, **(system_metrics() if "train/loss" in metrics else {})})
        send_metrics()

    def tell_start(step: int) -> None:
        if sentence := start_sentence(step, world.size, config.workers):
            note(sentence)

    notice = False

    def is_going() -> bool:
        nonlocal notice
        earlier, notice = notice, ray.train.get_preemption_info() is not None
        if notice and not earlier:
            note("a machine of this run is about to be taken away; a checkpoint is written every few seconds")
        return notice

    def send(folder: Path) -> None:
        storage.send(folder, int(read_metadata(storage.path / trained / FILES[trained])["step"]))

    words = load_datasets(config.data, charset_of(config), description=datasets)
    result = fit(
        config,
        words,
        run_folder=storage.path,
        record=record,
        world=world,
        run_id=run_id,
        on_start=tell_start,
        on_checkpoint=lambda step, values: ray.train.report({"step": step, **values}),
        on_written=send,
        save_now=is_going,
        note=note,
    )
    if sentence := end_sentence(result):
        note(sentence)
    storage.send_rest()
    world.barrier()
    storage.pull(trained)
    if metrics_log is not None:
        metrics_log.progress("calibrating", 0, 1)
    calibration = _calibrate(config, storage, words, world, note)
    # Not at the top: the first step need not wait for the library that draws.
    from kdltr_core.evaluation.benchmarks import open_readers, read_benchmarks
    from kdltr_core.evaluation.harm import measure_harm
    from pipelines.report.plots import draw_curves
    from pipelines.report.summary import headline_metrics, write_evaluation

    readers = open_readers([storage.path], world.device, note=note, cache_folder=config.data.cache_folder)
    tell_progress = _now_and_then(metrics_log.progress, SECONDS_BETWEEN_BARS) if metrics_log else None
    table = read_benchmarks(
        readers,
        words.benchmarks,
        world=world,
        progress=tell_progress and partial(tell_progress, "evaluating on the benchmarks"),
    )
    if words.validates_on_readings:
        table = replace(table, note=VALIDATED_ON_READINGS)
    matrices = measure_harm(
        readers,
        table,
        config.data,
        config.harm_words,
        world=world,
        progress=tell_progress and partial(tell_progress, "harm matrix"),
    )
    if metrics_log is not None:
        speed = {"images_per_second": training_speed(storage.path / METRICS_FILE)}
        (matrix,) = matrices.values() or (None,)
        metrics = headline_metrics(table, trained) | (matrix.metrics if matrix else {}) | speed | calibration
        metrics_log.record(result.step, metrics)
        evaluation = storage.path / "evaluation"
        write_evaluation(evaluation, table, words.benchmarks, trained, matrix)
        draw_curves(evaluation / "curves.png", storage.path / METRICS_FILE, config.recognizer.trained_column)
        storage.push("evaluation", METRICS_FILE)
    world.barrier()
    if is_uri(storage.place):
        shutil.rmtree(storage.path, ignore_errors=True)


def _calibrate(
    config: RunConfig, storage: Storage, words: Datasets, world: DistributedContext, note: Callable[[str], None]
) -> dict[str, float]:
    """Fits the temperature of what was trained, and keeps it in its file."""
    trained = config.recognizer.trained
    file = storage.path / trained / FILES[trained]
    module = load_recognizer(file).to(world.device)
    texts = selection_texts(config)
    held_out = [words.validation, *([texts] if texts is not None else [])]
    found = fit_on_pairs(module, held_out, config.recognizer.resolution, world=world)
    if world.is_main:
        add_notes(file, temperature=str(found.value))
        storage.push(trained)
        note(found.sentence)
    world.barrier()
    storage.pull(trained)
    errors = {"error_before": found.before.error, "error": found.after.error}
    return {f"calibration/{name}": 100 * error for name, error in errors.items()}


def start_sentence(step: int, size: int, workers: int) -> str:
    """What a person is told when a group of workers begins; '' where nothing has to be said."""
    begins = f"resuming from step {step}" if step else "beginning"
    if size < workers:
        shares = f"up to {-(-workers // size)} micro-batches of every batch"
        return f"{begins} on {size} of {workers} workers: each computes {shares}, the result is the same"
    if workers > 1:
        return f"{begins} on {workers} workers"
    return begins if step else ""


def end_sentence(result: FitResult) -> str:
    """What a person is told where training made nothing better; '' where it did, and where nothing was trained."""
    if result.best_step or not result.step:
        return ""
    return (
        "No step of this training was better than its start on the words that the best is chosen on: what is kept is "
        "the start. Train for longer, at another --optim.learning-rate, or on more kinds of text "
        "(--data.num-rendered-beside-roots); --selection-words 0 chooses a student on the held-out words alone"
    )


def system_metrics() -> dict[str, float]:
    """Of the first worker's machine, under the names that MLflow gives its own page to.

    The GPU's memory in all processes; its load where nvidia-ml-py is installed. That of the CPU since the last call.
    """
    memory = psutil.virtual_memory()
    found = {
        "cpu_utilization_percentage": psutil.cpu_percent(),
        "system_memory_usage_megabytes": memory.used / 1e6,
        "system_memory_usage_percentage": memory.percent,
    }
    if torch.cuda.is_available():
        free, total = torch.cuda.mem_get_info()
        found |= {
            "gpu_0_memory_usage_megabytes": (total - free) / 1e6,
            "gpu_0_memory_usage_percentage": 100 * (total - free) / total,
        }
        with suppress(Exception):  # training never fails by it
            found["gpu_0_utilization_percentage"] = torch.cuda.utilization()
    return {f"system/{name}": value for name, value in found.items()}


def _now_and_then(action: Callable[..., None], seconds: float) -> Callable[..., None]:
    """The action, but not within seconds of the last time."""
    last = 0.0

    def act(*arguments: Any) -> None:
        nonlocal last
        if time.monotonic() - last >= seconds:
            last = time.monotonic()
            action(*arguments)

    return act


def _hand_on_warnings(metrics_log: MetricsLog) -> None:
    """Warnings, for instance of a full disk or of an object store, reach the person who waits at the driver."""
    show = warnings.showwarning

    def note(message: Warning | str, category: type[Warning], filename: str, *place: Any, **more: Any) -> None:
        if "kdltr_core" in filename or "pipelines" in filename:
            metrics_log.note(f"warning: {message}")
        show(message, category, filename, *place, **more)

    warnings.showwarning = note
