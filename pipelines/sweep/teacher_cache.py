"""The teacher's outputs, kept once for all trials of a sweep where that pays; and what a step takes either way."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import ray
import torch

from kdltr_core.config import RunConfig
from kdltr_core.data.dataset import Datasets, load_datasets
from kdltr_core.distributed import DistributedContext
from kdltr_core.files import write_text
from kdltr_core.recognizers.registry import charset_of
from kdltr_core.train.build import load_teacher
from kdltr_core.train.distiller import needs_teacher
from kdltr_core.train.engine import total_steps
from kdltr_core.train.teacher_cache import open_teacher_cache, teacher_cache_size
from pipelines.run.metrics_log import MetricsLog
from pipelines.run.progress import progress_bar, say
from pipelines.sweep.folder import SweepFolder
from pipelines.sweep.options import SweepOptions
from pipelines.sweep.resources import Room
from pipelines.sweep.step_times import StepTimes, measure_step_times
from tune_spaces.space import Space

# Of the free disk: other things are kept there as well.
MOST_OF_DISK = 0.5
SECONDS_BETWEEN_LOOKS = 0.5


def share_teacher_cache(config: RunConfig, space: Space, words: Datasets, room: Room, folder: SweepFolder) -> RunConfig:
    """Makes the lessons that the trials share, and measures a step once; the config as the trials are to have it.

    Args:
        config: lessons are kept if its data.teacher_cache is on, and something is gained by it.
        room: of a trial, in which this is done too.

    Raises: ValueError, OSError as ``fit``.
    """
    if config.data.teacher_cache == "off":
        return config
    why_not = why_not_kept(config, folder.options, space, len(words.train))
    if not why_not:
        why_not = _on_a_machine(config, room, folder.step_times)
    if why_not:
        say(f"the teacher is asked anew in every step: {why_not}")
        return config.override({"data.teacher_cache": "off"})
    times = StepTimes.read(folder.step_times)
    assert times is not None
    say(times.sentence)
    figures = {"sweep/step_seconds_teacher_kept": times.kept, "sweep/step_seconds_teacher_anew": times.anew}
    MetricsLog(folder.metrics_log).record(0, figures)
    return config


def why_not_kept(config: RunConfig, options: SweepOptions, space: Space, num_pairs: int) -> str:
    """Why nothing is gained by keeping lessons; '' if something is."""
    if not needs_teacher(config.objective):
        return "the loss has no use for it"
    changing = [name for name in space.domains if name.startswith(("data.", "recognizer.teacher"))]
    changing = [name for name in changing if not name.startswith("data.train_degradation")]
    if changing:
        return f"its images, or itself, differ between trials by {', '.join(changing)}"
    shorter = config.override({"num_steps": options.trial_steps or config.num_steps})
    num_images = options.num_trials * total_steps(shorter, num_pairs)
    num_images += (options.confirm + 1) * options.confirm_seeds * total_steps(config, num_pairs) * bool(options.confirm)
    num_images *= config.optim.batch_size
    if num_images < num_pairs:
        return f"all trials together train on {num_images:,} images, fewer than the {num_pairs:,} that there are"
    return ""


def _on_a_machine(config: RunConfig, room: Room, times: Path) -> str:
    """Where trials run, for there the disk and the GPU are. Returns: why lessons cannot be kept, or ''."""
    note = times.with_name(".lessons-made")
    resources = dict(room.resources)
    if room.settings["workers"]:
        resources = {"gpu": 1} if room.settings["use_gpu"] else {"cpu": 1}
    task = ray.remote(_make_and_measure).options(
        num_cpus=resources.get("cpu", 0), num_gpus=resources.get("gpu", 0), max_retries=0
    )
    answer = task.remote(config.model_dump(mode="json"), room.settings["threads"], str(times), str(note))
    progress = progress_bar("the teacher reads each training image once")
    try:
        while not ray.wait([answer], timeout=SECONDS_BETWEEN_LOOKS)[0]:
            if note.exists():
                done, total = note.read_text().split()
                progress(int(done), int(total))
        return ray.get(answer)
    except KeyboardInterrupt:
        # Only what still runs: to cancel a task that has just ended can take the driver with it.
        ray.cancel(answer, force=True)
        raise
    except ray.exceptions.RayTaskError as error:
        raise error.as_instanceof_cause() from None
    finally:
        note.unlink(missing_ok=True)


def _make_and_measure(fields: Mapping[str, Any], num_threads: int, times: str, note: str) -> str:
    torch.set_num_threads(num_threads)
    config, world = RunConfig.model_validate(fields), DistributedContext.current()
    words = load_datasets(config.data, charset_of(config))
    teacher = load_teacher(config, world.device)
    settings = {"cache_folder": config.data.cache_folder, "precision": config.optim.precision}
    size = teacher_cache_size(teacher, words.train, device=world.device, **settings)
    free = shutil.disk_usage(Path(config.data.cache_folder).expanduser()).free
    if size > MOST_OF_DISK * free:
        return (
            f"what it says of {len(words.train):,} images takes {size / 1e9:.1f} GB, and {config.data.cache_folder} "
            f"has {free / 1e9:.1f} GB free"
        )
    since = 0.0

    def progress(done: int, total: int) -> None:
        nonlocal since
        if time.monotonic() - since > SECONDS_BETWEEN_LOOKS:
            since = time.monotonic()
            write_text(Path(note), f"{done} {total}")

    batch_size = config.evaluation_batch_size
    open_teacher_cache(teacher, words.train, device=world.device, batch_size=batch_size, progress=progress, **settings)
    del teacher
    if StepTimes.read(Path(times)) is None:
        with tempfile.TemporaryDirectory(prefix="kdltr-steps-") as scratch:
            measure_step_times(config, words, Path(scratch), world).write(Path(times))
    return ""
